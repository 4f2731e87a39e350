package tokenizer

import (
	"strings"
	"testing"
)

// corpus joins the texts of the golden file whose group begins with one of groups.
func corpus(b *testing.B, groups ...string) string {
	var text strings.Builder
	for _, v := range vectors(b, "testdata/vectors.jsonl.gz") {
		for _, group := range groups {
			if strings.HasPrefix(v.Group, group) {
				text.WriteString(v.Text)
				text.WriteByte('\n')
			}
		}
	}
	return text.String()
}

func BenchmarkEncode(b *testing.B) {
	tok := builtIn(b)
	for _, bench := range []struct{ name, text string }{
		{"prose", corpus(b, "prose")},
		{"code", corpus(b, "code")},
		{"random", corpus(b, "random")},
		{"run1MB", strings.Repeat("a", 1<<20)},
		{"spaces1MB", strings.Repeat(" ", 1<<20)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.text)))
			b.ReportAllocs()
			var dst []int32
			for b.Loop() {
				dst = tok.Encode(dst[:0], bench.text)
			}
		})
	}
}

func BenchmarkSplit(b *testing.B) {
	for _, bench := range []struct{ name, text string }{
		{"prose", corpus(b, "prose")},
		{"code", corpus(b, "code")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.text)))
			table := classes()
			for b.Loop() {
				for rest := bench.text; len(rest) > 0; {
					rest = rest[table.next(rest):]
				}
			}
		})
	}
}

func BenchmarkEncodeSpecial(b *testing.B) {
	tok := builtIn(b)
	text := strings.Repeat("<|start|>user<|message|>What is <b>2 + 2</b>?<|end|>", 1000)
	b.SetBytes(int64(len(text)))
	var dst []int32
	for b.Loop() {
		dst = tok.EncodeSpecial(dst[:0], text)
	}
}

func BenchmarkDecode(b *testing.B) {
	tok := builtIn(b)
	text := corpus(b, "prose")
	ids := tok.Encode(nil, text)
	b.Run("whole", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			tok.Decode(ids, false)
		}
	})
	b.Run("stream", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			d := tok.NewDecoder(false)
			for _, id := range ids {
				d.Push(id)
			}
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	b.Run("builtin", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := loadO200k(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tokenizer.json", func(b *testing.B) {
		data := fullJSON(b)
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := LoadJSON(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tiny", func(b *testing.B) {
		data := unzip(b, "testdata/tiny.json.gz")
		b.ReportAllocs()
		for b.Loop() {
			if _, err := LoadJSON(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
