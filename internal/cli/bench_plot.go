package cli

import (
	"fmt"
	"html"
	"strings"
)

// bar is one row of a plot: how much of the limit was reached.
type bar struct {
	label, figure string
	share         float64
}

// svg draws each row as its share of what limits it: decode of the memory's bandwidth, prefill of the arithmetic.
func (r *benchReport) svg() string {
	var decode, prefill []bar
	for _, d := range r.Decode {
		decode = append(decode, bar{fmt.Sprintf("%d × at %d", d.Batch, d.Context), fmt.Sprintf("%.1f tokens/s", d.Tokens), d.OfMemory})
	}
	for _, p := range r.Prefill {
		prefill = append(prefill, bar{fmt.Sprintf("%d tokens", p.Prompt), fmt.Sprintf("%.1f tokens/s", p.Tokens), p.OfArithmetic})
	}
	const left, width, row = 150, 420, 24
	var b strings.Builder
	y := 60
	text := func(x, y int, more, s string) {
		fmt.Fprintf(&b, `<text x="%d" y="%d"%s>%s</text>`+"\n", x, y, more, html.EscapeString(s))
	}
	group := func(title string, bars []bar) {
		if len(bars) == 0 {
			return
		}
		text(16, y+14, ` font-weight="bold"`, title)
		y += row
		for _, x := range bars {
			text(left-8, y+14, ` text-anchor="end"`, x.label)
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="16" fill="#f5efe6"/>`, left, y+1, width)
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="16" fill="#b4552d"/>`+"\n", left, y+1, min(x.share, 1)*width)
			text(left+width+8, y+14, "", x.figure+", "+percent(x.share))
			y += row
		}
		y += row / 2
	}
	group(fmt.Sprintf("Decode: sequences and position, of %.0f GB/s read", r.Bandwidth/1e9), decode)
	group(fmt.Sprintf("Prefill: of %.3g TFLOP/s", r.Arithmetic/1e12), prefill)
	head := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n"+
		`<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n", left+width+200, y)
	title := fmt.Sprintf(`<text x="16" y="26" font-size="16">%s</text><text x="16" y="46">%s</text>`+"\n",
		html.EscapeString(r.Model.Source), html.EscapeString(r.Device.Name+": "+r.Device.Detail))
	return head + title + b.String() + "</svg>\n"
}
