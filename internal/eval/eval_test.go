package eval

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"hearth/internal/engine"
	"hearth/internal/harmony"
)

func TestReadItems(t *testing.T) {
	good := `{"id":"a-1","skill":"a","date":"2025-01-01","request":{"messages":[{"role":"user","content":"hi"}]},"expect":{"type":"text","any_of":["yes"]}}`
	items, err := ReadItems(strings.NewReader(good + "\n" + strings.Replace(good, "a-1", "a-2", 1)))
	if err != nil || len(items) != 2 || items[1].ID != "a-2" || items[0].Request.Messages[0].Content != "hi" {
		t.Fatalf("%+v, %v", items, err)
	}
	for want, text := range map[string]string{
		"no items":         "",
		"line 1":           "{",
		"a second item":    good + "\n" + good,
		"both are needed":  strings.Replace(good, `"a-1"`, `""`, 1),
		"not what that":    strings.Replace(good, `"any_of":["yes"]`, `"any_of":[]`, 1),
		"messages":         strings.Replace(good, `[{"role":"user","content":"hi"}]`, `7`, 1),
		`type "telepathy"`: strings.Replace(good, `"text"`, `"telepathy"`, 1),
		"token too long":   `{"id":"` + strings.Repeat("x", maxLine) + `"}`,
		`line 2: id ""`:    good + "\n{}",
	} {
		if _, err := ReadItems(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want an error with %q", text, err, want)
		}
	}
}

func TestRight(t *testing.T) {
	text := func(s string) harmony.ChatAnswer { return harmony.ChatAnswer{Content: &s} }
	call := func(name, args string) harmony.ChatAnswer {
		return harmony.ChatAnswer{Calls: []harmony.Call{{Name: name, Arguments: args}}}
	}
	expect := func(s string) (e Expect) {
		if err := json.Unmarshal([]byte(s), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	sky := expect(`{"type":"text","any_of":["Blue.","It is blue."]}`)
	weather := expect(`{"type":"call","name":"get_weather","arguments":{"city":"Oslo","days":2}}`)
	value := expect(`{"type":"json","value":{"a":[1,2],"b":null}}`)
	for _, c := range []struct {
		e    Expect
		a    harmony.ChatAnswer
		want bool
	}{
		{sky, text("It is blue."), true},
		{sky, text("It is blue"), false},
		{sky, harmony.ChatAnswer{}, false},
		{weather, call("get_weather", `{"days":2.0, "city":"Oslo"}`), true},
		{weather, call("get_weather", `{"city":"Oslo"}`), false},
		{weather, call("get_weather", `{"city":"Oslo","days":2`), false},
		{weather, call("get_time", `{"city":"Oslo","days":2}`), false},
		{weather, text(`get_weather{"city":"Oslo","days":2}`), false},
		{value, text(` {"b":null,"a":[1,2]}`), true},
		{value, text(`{"a":[2,1],"b":null}`), false},
		{value, text("none"), false},
	} {
		if got := c.e.Right(c.a); got != c.want {
			t.Errorf("%+v for %+v: %v", c.a, c.e, got)
		}
	}
}

func TestPosition(t *testing.T) {
	dist := func(p ...float64) (out []engine.TokenLogProb) {
		for id, x := range p {
			out = append(out, engine.TokenLogProb{ID: int32(id), LogProb: float32(math.Log(x))})
		}
		return out
	}
	var r answer
	scratch := make([]float32, 2)
	r.position(dist(0.75, 0.25), dist(0.75, 0.25), scratch)
	if r.kl != 0 || r.agree != 1 {
		t.Errorf("a distribution against itself: %+v", r)
	}
	other := dist(0.5, 0.5)
	other[0], other[1] = other[1], other[0] // id 1 first
	r.position(dist(0.75, 0.25), other, scratch)
	want := 0.75*math.Log(0.75/0.5) + 0.25*math.Log(0.25/0.5)
	if math.Abs(r.kl-want) > 1e-6 || r.agree != 1 || r.compared != 2 {
		t.Errorf("KL %v, want %v; %+v", r.kl, want, r)
	}
}

func TestReport(t *testing.T) {
	items := []Item{{ID: "1", Skill: "b", Expect: Expect{Type: "text", AnyOf: []string{"x"}}}, {ID: "2", Skill: "a", Expect: Expect{Type: "text", AnyOf: []string{"x"}}}}
	x, y := "x", "<y>"
	tl := &tally{report: newReport(items)}
	tl.add(&items[0], &answer{message: harmony.ChatAnswer{Content: &x}, completion: 3}, nil)
	tl.add(&items[1], &answer{message: harmony.ChatAnswer{Content: &y}, completion: 5}, nil)
	r := tl.report.finish(2e9)
	if r.ExactMatch != 0.5 || r.Skills[0].Name != "a" || r.Skills[0].Right != 0 || r.Skills[1].Right != 1 || r.TokensPerSecond != 4 {
		t.Errorf("%+v", r)
	}
	if len(r.Failures) != 1 || r.Failures[0] != (Failure{"2", "x", "<y>"}) {
		t.Errorf("failures %+v", r.Failures)
	}
	if svg := r.SVG("a < b"); !strings.Contains(svg, "a &lt; b") || strings.Count(svg, "<rect") != 1+2*3 {
		t.Errorf("drawing: %s", svg)
	}
}
