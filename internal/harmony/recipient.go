package harmony

import (
	"strings"
	"unicode"
)

// cleanRecipient cuts off what is no part of a name: markers printed as text, and
// punctuation around it.
func cleanRecipient(name string) string {
	if i := strings.Index(name, "<|"); i >= 0 {
		name = name[:i]
	}
	return strings.Trim(name, "\"'`,;:()[]{}<>?!")
}

// declaredRecipient writes a recipient that means a declared function as
// functions.NAME. Others stay as they are: an undeclared call is for the client to
// judge.
func declaredRecipient(recipient string, tools map[string]bool) string {
	if recipient == "" {
		return ""
	}
	name, _ := strings.CutPrefix(recipient, functionsKey+".")
	for _, s := range []string{name, recipient} {
		if tools[s] {
			return functionName(s)
		}
	}
	// The longest declared name with junk glued to it.
	for end := len(name) - 1; end > 0; end-- {
		if tools[name[:end]] && isJunk(name[end:]) {
			return functionName(name[:end])
		}
	}
	return recipient
}

// isJunk reports whether s, which follows the name of a function, is no part of a
// longer name: another word of the header, or something that no name has.
func isJunk(s string) bool {
	if isChannel(s) || isType(s) {
		return true
	}
	r := []rune(s)[0]
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-./", r)
}

// callName is the name of the function that a recipient means, to its client.
func callName(recipient string) string {
	return strings.TrimPrefix(recipient, functionsKey+".")
}
