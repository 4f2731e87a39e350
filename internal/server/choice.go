package server

import (
	"unicode/utf8"

	"hearth/internal/engine"
)

// choice assembles one answer from the events of one engine request.
type choice interface {
	// take consumes an event and returns what the client may see now. The part of the last event has a finish.
	take(ev *engine.Event) []part
	// satisfied reports that a stop string was found: the engine may stop, and its further tokens are ignored.
	satisfied() bool
	// counts are the tokens consumed, and those of them that were reasoning.
	counts() (completion, reasoning int)
}

// visible is the text that a client may see, with the log-probabilities of its tokens. It ends before the first stop
// string, and holds back what may become one together with the tokens it is made of.
type visible struct {
	stop    *stopMatcher
	pushed  int // bytes
	shown   int // bytes
	chars   int // pushed, in characters
	waiting []waitingLogprob
	found   string
}

type waitingLogprob struct {
	at int // in bytes: the token may be shown once more than this is shown
	tokenLogprob
}

// push adds the text of a token. lp is nil if no log-probabilities were asked for. Text that must not be searched
// for stop strings is not: minimum says that the answer has not reached its least length.
func (v *visible) push(text string, lp *tokenLogprob, minimum bool) (string, []tokenLogprob) {
	if lp != nil {
		lp.offset = v.chars
		v.waiting = append(v.waiting, waitingLogprob{at: v.pushed, tokenLogprob: *lp})
	}
	v.pushed += len(text)
	v.chars += utf8.RuneCountInString(text)
	if !minimum {
		text, v.found = v.stop.push(text)
	}
	v.shown += len(text)
	if v.found != "" {
		v.pushed = v.shown
	}
	return text, v.ready(v.shown)
}

// flush shows what was held back, when the text has ended by itself.
func (v *visible) flush() (string, []tokenLogprob) {
	if v.found != "" {
		v.waiting = nil
		return "", nil
	}
	text := v.stop.flush()
	v.shown += len(text)
	return text, v.ready(v.shown + 1)
}

// ready takes the tokens whose text begins before a byte.
func (v *visible) ready(before int) []tokenLogprob {
	var lps []tokenLogprob
	for len(v.waiting) > 0 && v.waiting[0].at < before {
		lps = append(lps, v.waiting[0].tokenLogprob)
		v.waiting = v.waiting[1:]
	}
	return lps
}

// idCollector keeps the token ids of an answer until a part can carry them.
type idCollector struct {
	wanted  bool
	waiting []int32
}

func (c *idCollector) add(id int32) {
	if c.wanted {
		c.waiting = append(c.waiting, id)
	}
}

// attach gives the collected ids to the last of parts.
func (c *idCollector) attach(parts []part) {
	if n := len(parts); n > 0 {
		parts[n-1].tokens, c.waiting = c.waiting, nil
	}
}

// finishOf gives a finish reason its name, and what stopped the answer: the stop string, or one of the request's own
// stop tokens. An end of the model's own has no such reason.
func finishOf(ev *engine.Event, found string, stopIDs []int32) (finish string, stopped any) {
	if found != "" {
		return "stop", found
	}
	if ev.Reason == engine.ReasonLength {
		return "length", nil
	}
	for _, id := range stopIDs {
		if id == ev.StopToken {
			return "stop", id
		}
	}
	return "stop", nil
}
