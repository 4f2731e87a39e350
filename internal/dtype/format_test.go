package dtype

import (
	"fmt"
	"testing"
)

func TestFormats(t *testing.T) {
	for i := range formats {
		f := Format(i)
		if f.String() == "" {
			t.Errorf("format %d has no name", i)
		}
		if id, ok := f.GGUFType(); ok {
			if back, ok := FormatOfGGUF(id); back != f || !ok {
				t.Errorf("%v is GGUF type %d, which is %v", f, id, back)
			}
		}
		if bytes := f.BlockBytes(); bytes > 0 {
			if got := float64(8*bytes) / float64(f.BlockElems()); got != f.Bits() {
				t.Errorf("%v has %v bits, %d bytes hold %d elements", f, f.Bits(), bytes, f.BlockElems())
			}
		}
		if name, ok := f.SafetensorsType(); ok && f.Bits() >= 8 {
			if back, ok := FormatOfSafetensors(name); back != f || !ok {
				t.Errorf("%v is %s, which is %v", f, name, back)
			}
		}
	}
}

func TestFormatNames(t *testing.T) {
	show := func(f Format, ok bool) string { return fmt.Sprint(f, " ", ok) }
	for _, c := range []struct{ got, want string }{
		{show(FormatOfGGUF(0)), "F32 true"},
		{show(FormatOfGGUF(1)), "F16 true"},
		{show(FormatOfGGUF(4)), "MXFP4 (Ollama) true"},
		{show(FormatOfGGUF(8)), "Q8_0 true"},
		{show(FormatOfGGUF(14)), "Q6_K true"},
		{show(FormatOfGGUF(20)), "IQ4_NL true"},
		{show(FormatOfGGUF(23)), "IQ4_XS true"},
		{show(FormatOfGGUF(30)), "BF16 true"},
		{show(FormatOfGGUF(39)), "MXFP4 (GGUF) true"},
		{show(FormatOfGGUF(5)), "invalid false"},
		{show(FormatOfGGUF(1<<32 - 1)), "invalid false"}, // the mark for "none" is no type
		{show(FormatOfSafetensors("BF16")), "BF16 true"},
		{show(FormatOfSafetensors("F8_E5M2")), "invalid false"},
		{show(FormatOfSafetensors("MXFP4")), "invalid false"},
		{Format(200).String(), "Format(200)"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	unknown := Format(200)
	if _, ok := unknown.GGUFType(); ok || unknown.BlockElems() != 0 || unknown.BlockBytes() != 0 || unknown.Bits() != 0 {
		t.Error("an unknown format has a type or a size")
	}
	if name, ok := NF4.SafetensorsType(); name != "U8" || !ok {
		t.Errorf("NF4 codes are %q in safetensors", name)
	}
	if _, ok := Q8_0.SafetensorsType(); ok {
		t.Error("Q8_0 has a safetensors type")
	}
}
