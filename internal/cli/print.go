package cli

import (
	"fmt"
	"io"
)

// printer writes aligned "label  text" lines.
type printer struct {
	w     io.Writer
	width int
}

func (p *printer) line(label, format string, args ...any) {
	fmt.Fprintf(p.w, "%-*s %s\n", p.width, label, fmt.Sprintf(format, args...))
}
