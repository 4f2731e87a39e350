package server

import (
	"hearth/internal/engine"
	"hearth/internal/harmony"
)

// chatChoice assembles the message of a chat: reasoning, content and tool calls. Stop strings are looked for in the
// content alone, because "\n\n" would otherwise end the reasoning.
type chatChoice struct {
	index    int
	p        *params
	enc      *harmony.Encoding
	exclude  bool // leave the reasoning out
	asm      *harmony.ChatAssembler
	content  visible
	ids      idCollector
	consumed int
}

func newChatChoice(index int, p *params, enc *harmony.Encoding, o harmony.ParserOptions, exclude bool) *chatChoice {
	return &chatChoice{
		index: index, p: p, enc: enc, exclude: exclude, asm: harmony.NewChatAssembler(enc, o),
		content: visible{stop: newStopMatcher(p.stop)}, ids: idCollector{wanted: p.returnIDs},
	}
}

func (c *chatChoice) satisfied() bool { return c.content.found != "" }

func (c *chatChoice) counts() (completion, reasoning int) {
	reasoning, _ = c.asm.Counts()
	return c.consumed, reasoning
}

func (c *chatChoice) take(ev *engine.Event) []part {
	switch {
	case ev.Done:
		return c.finish(ev)
	case c.satisfied() || ev.Kind != engine.KindToken:
		return nil
	}
	c.consumed++
	c.ids.add(ev.Token)
	if c.p.ends(ev.Token) && !c.special(ev.Token) {
		return nil // the request's own stop token: its text is no part of the answer
	}
	deltas := c.asm.Push(ev.Token)
	parts := c.parts(deltas, c.logprob(ev))
	c.ids.attach(parts)
	return parts
}

// logprob is the token's if it was asked for and the token is text of the answer.
func (c *chatChoice) logprob(ev *engine.Event) *tokenLogprob {
	if c.p.logprobs < 0 || c.asm.Channel() != harmony.ChannelFinal || c.special(ev.Token) {
		return nil
	}
	return &tokenLogprob{id: ev.Token, value: ev.LogProb, top: ev.Top}
}

// special reports that a token has a meaning in place of a text.
func (c *chatChoice) special(id int32) bool {
	_, special, ok := c.enc.Tokenizer().Token(id)
	return special || !ok
}

// parts turns what one token added into what the client may see of it. lp belongs to the token.
func (c *chatChoice) parts(deltas []harmony.ChatDelta, lp *tokenLogprob) []part {
	var parts []part
	add := func(p part) {
		p.choice = c.index
		if !p.empty() {
			parts = append(parts, p)
		}
	}
	for _, d := range deltas {
		switch {
		case d.Call != nil:
			add(part{call: newCallDelta(d.Call)})
		case d.Reasoning != "" && !c.exclude:
			add(part{reasoning: d.Reasoning})
		case d.Content != "":
			text, lps := c.content.push(d.Content, lp, c.consumed < c.p.minTokens)
			lp = nil
			add(part{text: text, logprobs: lps})
			if c.satisfied() {
				return parts
			}
		}
	}
	if lp != nil { // part of a character: the token waits for its text
		_, lps := c.content.push("", lp, true)
		add(part{logprobs: lps})
	}
	return parts
}

func newCallDelta(d *harmony.CallDelta) *callDelta {
	c := &callDelta{index: d.Index, arguments: d.Arguments}
	if d.Start {
		c.id, c.name = newID("call_"), d.Name
	}
	return c
}

// finish gives what is left, and last a part that only says how the answer ended.
func (c *chatChoice) finish(ev *engine.Event) []part {
	last := part{choice: c.index}
	last.finish, last.stopped = finishOf(ev, c.content.found, c.p.stopIDs)
	var parts []part
	if !c.satisfied() {
		parts = c.parts(c.asm.Finish(last.finish == "length"), nil)
		if !c.satisfied() { // the end may itself have completed a stop string
			text, lps := c.content.flush()
			if p := (part{choice: c.index, text: text, logprobs: lps}); !p.empty() {
				parts = append(parts, p)
			}
			last.finish = c.asm.FinishReason()
		}
	}
	parts = append(parts, last)
	c.ids.attach(parts)
	return parts
}
