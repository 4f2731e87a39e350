package conformance

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	tiktoken "github.com/tiktoken-go/tokenizer"
	"hearth/internal/tokenizer"
)

// checker encodes with both programs.
type checker struct {
	ours   *tokenizer.Tokenizer
	theirs tiktoken.Codec
	bytes  int
}

func newChecker(t *testing.T) *checker {
	ours, err := tokenizer.O200kHarmony()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tiktoken.Get(tiktoken.O200kBase)
	if err != nil {
		t.Fatal(err)
	}
	return &checker{ours: ours, theirs: theirs}
}

func (c *checker) check(t *testing.T, text string) {
	t.Helper()
	c.bytes += len(text)
	want, _, err := c.theirs.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	got := c.ours.Encode(nil, text)
	same := len(got) == len(want)
	for i := 0; same && i < len(got); i++ {
		same = uint(got[i]) == want[i]
	}
	if !same {
		t.Fatalf("%q:\nours   %d\ntheirs %d", text, got, want)
	}
}

// TestRepository encodes every text file of Hearth: code of several languages,
// prose, tables, JSON.
func TestRepository(t *testing.T) {
	c := newChecker(t)
	files := 0
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if len(text) > 200_000 || !utf8.Valid(text) {
			return nil
		}
		files++
		c.check(t, string(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Fatalf("found only %d text files", files)
	}
	t.Logf("%d files, %d bytes", files, c.bytes)
}

// TestRandom encodes random mixtures of words and awkward characters.
func TestRandom(t *testing.T) {
	c := newChecker(t)
	parts := strings.Split(" |  |\t|\n|\r\n|\u00a0|\u3000|\u2028|'s|'LL|'\u017f|’t|the| The|THE|HTTPServer|naïve|Straße|привет|ПРИВЕТ|"+
		"中文|日本語|한국어|ไทย|العربية|हिन्दी|ªº|ǅ|\u0301|e\u0301|1|12345|½|٣٤|Ⅷ|!|...|//|/\n|->|<|start|>|=>|{}|💖|👩\u200d👧|🇩🇪|\U00020000|\u200b|\ufeff|\x00|aaaaaaaa", "|")
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		var text strings.Builder
		for range 1 + rng.IntN(20) {
			text.WriteString(parts[rng.IntN(len(parts))])
		}
		c.check(t, text.String())
	}
	t.Logf("%d bytes", c.bytes)
}
