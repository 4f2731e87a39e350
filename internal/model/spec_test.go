package model

import (
	"math"
	"testing"

	"hearth/internal/checkpoint"
)

// gptoss is the rope of both published models.
func gptoss() *checkpoint.Rope {
	return &checkpoint.Rope{Theta: 150000, Factor: 32, BetaFast: 32, BetaSlow: 1, OriginalContext: 4096, Yarn: true}
}

func TestYarnTable(t *testing.T) {
	// spec/model.md 5: unscaled below 9, blended to 17, divided by 32 from 18 on.
	want := map[int]float64{0: 1, 1: 0.689044306, 8: 0.0508132748, 9: 0.0317056962, 12: 0.00679495949, 17: 1.29318701e-4, 18: 3.83088124e-5, 31: 3.02351143e-7}
	freq, scale, err := rotary(64, gptoss())
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range want {
		if math.Abs(float64(freq[i])/w-1) > 1e-7 {
			t.Errorf("frequency %d is %.9g, want %.9g", i, freq[i], w)
		}
	}
	if math.Abs(float64(scale)-1.3465735902799727) > 1e-7 {
		t.Errorf("scale %v", scale)
	}
	for _, p := range []struct {
		pos, i   int
		cos, sin float64
	}{{1, 0, 0.7275568, 1.133103}, {1, 8, 1.344836, 0.06839437}, {100, 12, 1.047486, 0.8461882}, {4095, 17, 1.162133, 0.6802267}, {131071, 31, 1.345516, 0.05335003}} {
		a := float64(float32(p.pos) * freq[p.i])
		c, s := math.Cos(a)*float64(scale), math.Sin(a)*float64(scale)
		if math.Abs(c-p.cos) > 2e-6 || math.Abs(s-p.sin) > 2e-6 {
			t.Errorf("position %d index %d: cos %v sin %v, want %v %v", p.pos, p.i, c, s, p.cos, p.sin)
		}
	}
}

func TestTruncateChangesTheRamp(t *testing.T) {
	plain, _, _ := rotary(64, gptoss())
	r := gptoss()
	r.Truncate = true
	cut, _, _ := rotary(64, r)
	if plain[9] == cut[9] {
		t.Error("truncate has no effect at index 9")
	}
	r.Yarn = false
	off, scale, _ := rotary(64, r)
	if scale != 1 || off[31] < 20*plain[31] {
		t.Error("a model without YaRN still has its frequencies divided")
	}
}

func TestRotaryRefusesNonsense(t *testing.T) {
	for i, f := range []func(*checkpoint.Rope){
		func(r *checkpoint.Rope) { r.Theta = 1 }, func(r *checkpoint.Rope) { r.Factor = 0 },
		func(r *checkpoint.Rope) { r.OriginalContext = 0 }, func(r *checkpoint.Rope) { r.BetaSlow = 0 },
	} {
		r := gptoss()
		f(r)
		if _, _, err := rotary(64, r); err == nil {
			t.Errorf("case %d was taken: %+v", i, r)
		}
	}
}
