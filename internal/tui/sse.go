package tui

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// maxEvent bounds one server-sent event. A chunk of a chat answer is a few hundred bytes.
const maxEvent = 8 << 20

// event is one server-sent event. Fields other than event and data are not kept.
type event struct {
	name string
	data string
}

// eventReader splits a text/event-stream into events as described by the WHATWG HTML
// specification, section 9.2.6: lines end in LF, CRLF or CR; lines that begin with a colon are
// comments; several data lines are joined by LF; a blank line ends the event. It departs from
// the specification in one point: an event that is cut off by the end of the stream is
// returned, because many servers leave out the last blank line. It is total: any bytes give
// events, or an error for one that is longer than maxEvent.
type eventReader struct {
	r      *bufio.Reader
	skipLF bool // the last line ended in CR; a LF that follows belongs to it
	bom    bool // the optional byte order mark has been looked for
}

func newEventReader(r io.Reader) *eventReader {
	return &eventReader{r: bufio.NewReader(r)}
}

// next returns the next event that carries data, or io.EOF.
func (e *eventReader) next() (event, error) {
	var ev event
	var data []byte
	has := false
	for {
		line, err := e.line()
		if err == io.EOF && has {
			err, line = nil, nil // the rest of a cut event; the next call reports the end
		}
		if err != nil {
			return event{}, err
		}
		if len(line) == 0 {
			if has {
				ev.data = string(data)
				return ev, nil
			}
			ev = event{}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if has {
				data = append(data, '\n')
			}
			if len(data)+len(value) > maxEvent {
				return event{}, errEventTooLong
			}
			data = append(data, value...)
			has = true
		case "event":
			ev.name = string(value)
		}
	}
}

var errEventTooLong = fmt.Errorf("the server sent an event of more than %d MiB", maxEvent>>20)

// line returns the next line without its end. The last line needs no end. The result is
// valid until the next call.
func (e *eventReader) line() ([]byte, error) {
	var line []byte
	for {
		if _, err := e.r.Peek(1); err != nil {
			if err == io.EOF && len(line) > 0 {
				return line, nil
			}
			return nil, err
		}
		buf, _ := e.r.Peek(e.r.Buffered())
		if e.skipLF {
			e.skipLF = false
			if buf[0] == '\n' {
				e.r.Discard(1)
				continue
			}
		}
		if !e.bom {
			e.bom = true
			if buf[0] == 0xEF {
				if head, _ := e.r.Peek(3); string(head) == "\ufeff" {
					e.r.Discard(3)
					continue
				}
				buf, _ = e.r.Peek(e.r.Buffered())
			}
		}
		i := bytes.IndexAny(buf, "\r\n")
		if i < 0 {
			line = append(line, buf...)
			e.r.Discard(len(buf))
			if len(line) > maxEvent {
				return nil, errEventTooLong
			}
			continue
		}
		line = append(line, buf[:i]...)
		e.skipLF = buf[i] == '\r'
		e.r.Discard(i + 1)
		return line, nil
	}
}

// pending reports whether bytes have arrived that next has not looked at. It never blocks.
func (e *eventReader) pending() bool { return e.r.Buffered() > 0 }
