package cli

import (
	"strings"
	"testing"
)

// What issue 6 asks for: the published gpt-oss-20b with one sequence of full length in BF16 within 16.2 GiB of a card, with
// the driver's share, from what the session would allocate.
func TestFits20b(t *testing.T) {
	m, err := newMade("gpt-oss-20b", "mxfp4", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	m = m.outlined()
	r := &report{KV: kvReport{Context: 131072}, Config: shapeReport{BytesToken: 3.7e9}}
	for name, seqs := range map[string]int64{"rtx3090": 3, "rtx4060ti": 0, "a100": 20, "rtx3060": 0} {
		card, err := findCard(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.fitsCard(m, card)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %+v", name, f)
		if total := f.Needed + reserved; float64(total) > 16.2*float64(gib) {
			t.Errorf("%s: %.2f GiB in all", name, float64(total)/float64(gib))
		}
		if f.Weights+f.KV+f.Step != f.Needed || f.Fits != (seqs > 0) || f.Step > 200<<20 {
			t.Errorf("%s: %+v", name, f)
		}
	}
	card, _ := findCard("rtx3060")
	if f, _ := r.fitsCard(m, card); !strings.Contains(strings.Join(f.Reasons, "\n"), "are more than the") {
		t.Errorf("%+v", f)
	}
}
