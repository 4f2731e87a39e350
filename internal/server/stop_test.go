package server

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestStopMatcher(t *testing.T) {
	for _, c := range []struct {
		name   string
		stops  []string
		pieces []string
		shown  []string // after each piece, and last the flush
		found  string
	}{
		{"none", nil, []string{"a", "b"}, []string{"a", "b", ""}, ""},
		{"in one piece", []string{"STOP"}, []string{"go STOP on"}, []string{"go "}, "STOP"},
		{"across pieces", []string{"STOP"}, []string{"go S", "TO", "P on"}, []string{"go ", "", ""}, "STOP"},
		{"a beginning that does not end", []string{"STOP"}, []string{"S", "TO", "RE"}, []string{"", "", "STORE", ""}, ""},
		{"held to the end", []string{"STOP"}, []string{"go STO"}, []string{"go ", "STO"}, ""},
		{"falls back inside itself", []string{"aab"}, []string{"a", "a", "a", "b"}, []string{"", "", "a", ""}, "aab"},
		{"the first to be complete", []string{"abcd", "bc"}, []string{"abcd"}, []string{"a"}, "bc"},
		{"the longer of two ends", []string{"c", "abc"}, []string{"xabc"}, []string{"x"}, "abc"},
		{"at the start", []string{"\n\n"}, []string{"\n", "\n"}, []string{"", ""}, "\n\n"},
		{"beyond ASCII", []string{"…é"}, []string{"a…", "è…", "é"}, []string{"a", "…è", ""}, "…é"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newStopMatcher(c.stops)
			var shown []string
			found := ""
			for _, p := range c.pieces {
				var s string
				s, found = m.push(p)
				shown = append(shown, s)
			}
			if found == "" {
				shown = append(shown, m.flush())
			}
			if !slices.Equal(shown, c.shown) || found != c.found {
				t.Errorf("shown %q, found %q; want %q and %q", shown, found, c.shown, c.found)
			}
		})
	}
}

// TestStopMatcherProperty compares any split of a text with a search of the whole: no text is lost, none of a stop
// string is shown, and nothing is shown late.
func TestStopMatcherProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.StringOfN(rapid.RuneFrom([]rune("abé")), 1, 6, -1)
		stops := rapid.SliceOfN(letters, 0, 4).Draw(t, "stops")
		pieces := rapid.SliceOf(rapid.StringOfN(rapid.RuneFrom([]rune("abéc")), 0, 5, -1)).Draw(t, "pieces")

		m := newStopMatcher(stops)
		shown, found, text := "", "", ""
		for _, p := range pieces {
			text += p
			var s string
			s, found = m.push(p)
			shown += s
			if found != "" {
				break
			}
			if want := text[:len(text)-longestBeginning(text, stops)]; shown != want {
				t.Fatalf("after %q shown %q, want %q", text, shown, want)
			}
		}
		want, wantFound := cutAtStop(text, stops)
		if found == "" {
			shown += m.flush()
		}
		if shown != want || found != wantFound {
			t.Fatalf("%q with %q: shown %q, found %q; want %q and %q", text, stops, shown, found, want, wantFound)
		}
	})
}

// cutAtStop is the plain definition: the stop string that ends first counts, of several the longest.
func cutAtStop(text string, stops []string) (before, found string) {
	for end := range len(text) + 1 {
		for _, s := range stops {
			if strings.HasSuffix(text[:end], s) && len(s) > len(found) {
				found = s
			}
		}
		if found != "" {
			return text[:end-len(found)], found
		}
	}
	return text, ""
}

// longestBeginning is the length of the longest end of text that begins a stop string.
func longestBeginning(text string, stops []string) int {
	n := 0
	for _, s := range stops {
		for k := range len(s) {
			if strings.HasSuffix(text, s[:k]) {
				n = max(n, k)
			}
		}
	}
	return n
}

func FuzzStopMatcher(f *testing.F) {
	f.Add("go STOP on", "STOP", "ST", uint8(3))
	f.Add("aaab", "aab", "\n\n", uint8(1))
	f.Fuzz(func(t *testing.T, text, one, two string, size uint8) {
		stops := slices.DeleteFunc([]string{one, two}, func(s string) bool { return s == "" })
		m := newStopMatcher(stops)
		shown, found := "", ""
		for rest := text; rest != "" && found == ""; {
			n := min(int(size)+1, len(rest))
			var s string
			s, found = m.push(rest[:n])
			shown, rest = shown+s, rest[n:]
		}
		if found == "" {
			shown += m.flush()
		}
		if want, wantFound := cutAtStop(text, stops); shown != want || found != wantFound {
			t.Errorf("shown %q, found %q; want %q and %q", shown, found, want, wantFound)
		}
	})
}
