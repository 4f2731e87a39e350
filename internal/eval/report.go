package eval

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"hearth/internal/harmony"
)

// Report is the outcome of a run; its JSON form is for scripts.
type Report struct {
	Items           int       `json:"items"`
	Right           int       `json:"right"`
	ExactMatch      float64   `json:"exact_match"`
	Skills          []Skill   `json:"skills"`
	Tokens          int       `json:"completion_tokens"`
	Seconds         float64   `json:"seconds"`
	TokensPerSecond float64   `json:"tokens_per_second"`
	Compared        int       `json:"compared_positions,omitempty"`
	MeanKL          float64   `json:"mean_kl,omitempty"`
	Top1            float64   `json:"top1_agreement,omitempty"`
	Failures        []Failure `json:"failures"`
}

// Skill is the score of one skill.
type Skill struct {
	Name       string  `json:"skill"`
	Items      int     `json:"items"`
	Right      int     `json:"right"`
	ExactMatch float64 `json:"exact_match"`
}

// Failure is one wrong answer.
type Failure struct {
	ID   string `json:"id"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// tally gathers answers from many goroutines.
type tally struct {
	mu     sync.Mutex
	report *Report
	done   int
}

func newReport(items []Item) *Report {
	r := &Report{Items: len(items), Failures: []Failure{}}
	for _, name := range Skills(items) {
		r.Skills = append(r.Skills, Skill{Name: name})
	}
	return r
}

func (t *tally) add(i *Item, a *answer, progress func(done, total int)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.report
	at, _ := slices.BinarySearchFunc(r.Skills, i.Skill, func(s Skill, name string) int { return cmp.Compare(s.Name, name) })
	s := &r.Skills[at]
	s.Items++
	if i.Expect.Right(a.message) {
		s.Right++
		r.Right++
	} else {
		r.Failures = append(r.Failures, Failure{ID: i.ID, Want: i.Expect.want(), Got: said(a.message)})
	}
	r.Tokens += a.completion
	r.Compared += a.compared
	r.MeanKL += a.kl
	r.Top1 += float64(a.agree)
	if t.done++; progress != nil {
		progress(t.done, r.Items)
	}
}

// said prints an answer for a list of failures.
func said(a harmony.ChatAnswer) string {
	if len(a.Calls) > 0 {
		return a.Calls[0].Name + a.Calls[0].Arguments
	}
	if a.Content == nil {
		return ""
	}
	return *a.Content
}

func (r *Report) finish(d time.Duration) *Report {
	for i := range r.Skills {
		s := &r.Skills[i]
		s.ExactMatch = float64(s.Right) / float64(s.Items)
	}
	r.ExactMatch = float64(r.Right) / float64(r.Items)
	r.Seconds = d.Seconds()
	r.TokensPerSecond = float64(r.Tokens) / r.Seconds
	if r.Compared > 0 {
		r.MeanKL /= float64(r.Compared)
		r.Top1 /= float64(r.Compared)
	}
	slices.SortFunc(r.Failures, func(a, b Failure) int { return cmp.Compare(a.ID, b.ID) })
	return r
}

// Print writes the table.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%-16s %6s %6s %12s\n", "skill", "items", "right", "exact match")
	for _, s := range r.Skills {
		fmt.Fprintf(w, "%-16s %6d %6d %12.3f\n", s.Name, s.Items, s.Right, s.ExactMatch)
	}
	fmt.Fprintf(w, "%-16s %6d %6d %12.3f\n", "all", r.Items, r.Right, r.ExactMatch)
	if r.Compared > 0 {
		fmt.Fprintf(w, "\nagainst the reference, %d positions: mean KL %.2e, the same most likely token %.4f\n", r.Compared, r.MeanKL, r.Top1)
	}
	fmt.Fprintf(w, "\n%d tokens in %.1f s, %.0f tokens/s\n", r.Tokens, r.Seconds, r.TokensPerSecond)
}

// SVG draws exact match by skill as horizontal bars.
func (r *Report) SVG(title string) string {
	const left, width, row, top = 150, 420, 24, 56
	var b strings.Builder
	height := top + row*(len(r.Skills)+1) + 16
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", left+width+90, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/><text x="16" y="28" font-size="16">%s</text>`+"\n", escape(title))
	bar := func(i int, name string, share float64, colour string) {
		y := top + i*row
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-8, y+14, escape(name))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="16" fill="#f5efe6"/>`, left, y+1, width)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="16" fill="%s"/>`, left, y+1, share*width, colour)
		fmt.Fprintf(&b, `<text x="%d" y="%d">%.3f</text>`+"\n", left+width+8, y+14, share)
	}
	for i, s := range r.Skills {
		bar(i, s.Name, s.ExactMatch, "#c9a27c")
	}
	bar(len(r.Skills), "all", r.ExactMatch, "#b4552d")
	b.WriteString("</svg>\n")
	return b.String()
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
