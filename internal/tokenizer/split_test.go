package tokenizer

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"github.com/dlclark/regexp2/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// oracle is the literal pattern in an engine that can run it.
var oracle = regexp2.MustCompile(splitPattern, regexp2.None)

func splitByRegexp(t testing.TB, text string) []string {
	t.Helper()
	spans, err := oracle.FindAllStringIndex(text, -1)
	if err != nil {
		t.Fatal(err)
	}
	var pieces []string
	for _, span := range spans {
		pieces = append(pieces, text[span[0]:span[1]])
	}
	return pieces
}

func splitByHand(text string) []string {
	var pieces []string
	for table := classes(); len(text) > 0; {
		n := table.next(text)
		pieces = append(pieces, text[:n])
		text = text[n:]
	}
	return pieces
}

func checkSplit(t testing.TB, text string) {
	t.Helper()
	if diff := cmp.Diff(splitByRegexp(t, text), splitByHand(text)); diff != "" {
		t.Fatalf("%q: (-regexp +ours)\n%s", text, diff)
	}
}

// awkward has a few characters of every class of the pattern, those that behave
// unlike their class, and ones beyond the basic plane.
var awkward = []rune("aZsStTdDmMlLrReEvVxé" + // words and contractions
	"\u01C5\u02B0ªº中あאจ\U00020000\U0001D400\U0001D41A\U0001E943\U0001E921" + // Lt, Lm, Lo, astral Lo Lu Ll
	"\u0301\u0300\u093E\u20DD\U000E0100" + // marks
	"09٣½²Ⅷ〇\U0001D7CF" + // N
	"'’\u017f\u212a" + // apostrophes, s and k by folding
	" \t\n\r\v\f\u0085\u00a0\u1680\u2003\u2028\u202f\u3000" + // white space
	"/.,-_!?@#$%|<>€💖\U0001F3FD\u200b\u200d\ufeff\uFFFD\u0000\u007f\uE000") // the rest

func TestSplitAgainstRegexp(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second; TestSplitAgainstRegexpRandomly does the same with rapid")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	for range 10_000 {
		// Few distinct characters at a time make runs and collisions likely.
		some := make([]rune, 1+rng.IntN(8))
		for i := range some {
			some[i] = awkward[rng.IntN(len(awkward))]
		}
		text.Reset()
		for range 1 + rng.IntN(24) {
			text.WriteRune(some[rng.IntN(len(some))])
		}
		checkSplit(t, text.String())
	}
}

// TestSplitAgainstRegexpRandomly also reports a minimal text when they differ.
func TestSplitAgainstRegexpRandomly(t *testing.T) {
	text := rapid.StringOf(rapid.OneOf(rapid.SampledFrom(awkward), rapid.Rune()))
	rapid.Check(t, func(rt *rapid.T) {
		s := text.Draw(rt, "text")
		if diff := cmp.Diff(splitByRegexp(t, s), splitByHand(s)); diff != "" {
			rt.Fatalf("%q: (-regexp +ours)\n%s", s, diff)
		}
	})
}

// TestClasses compares the table with package unicode for every rune.
func TestClasses(t *testing.T) {
	table := classes()
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if 0xD800 <= r && r < 0xE000 {
			continue
		}
		want := class(0)
		set := func(c class, in bool) {
			if in {
				want |= c
			}
		}
		mark := unicode.Is(unicode.M, r)
		caseless := unicode.In(r, unicode.Lm, unicode.Lo)
		set(upper, unicode.In(r, unicode.Lu, unicode.Lt) || caseless || mark)
		set(lower, unicode.Is(unicode.Ll, r) || caseless || mark)
		set(letter, unicode.IsLetter(r))
		set(number, unicode.IsNumber(r))
		set(space, unicode.Is(unicode.White_Space, r))
		set(newline, r == '\r' || r == '\n')
		if got, _ := table.at(string(r), 0); got != want {
			t.Errorf("%U: classes %b, want %b", r, got, want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, text := range []string{
		"It's IT'S a'\u017f b", "  \n  x", "a\r\nb", "/path//to/file.go", "...\n\n\n//\n\n/x", "½½ ٣٤٥٦ 1234567",
		"ªA\u0301a\u0301 !\u0301!!\u0301", "\u00a0x\u3000\u3000y", "camelCaseHTTPServer", "don’t", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			t.Skip("the regular expression is slow")
		}
		text = validUTF8(text)
		checkSplit(t, text)
	})
}
