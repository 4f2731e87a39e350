package server

import (
	"hearth/internal/engine"
	"hearth/internal/tokenizer"
)

// textChoice assembles a text completion: the tokens' text as it is, after the prompt's if echo was asked for.
type textChoice struct {
	index    int
	p        *params
	echo     []int32            // the prompt, nil without echo
	prompt   *tokenizer.Decoder // for echo with log-probabilities; nil without a tokenizer
	decoder  *tokenizer.Decoder // for the answer; nil without a tokenizer
	echoed   bool
	seen     int // prompt tokens whose log-probabilities came
	content  visible
	ids      idCollector
	consumed int
	tok      *tokenizer.Tokenizer
}

func newTextChoice(index int, p *params, tok *tokenizer.Tokenizer, echo []int32, showSpecials bool) *textChoice {
	c := &textChoice{
		index: index, p: p, echo: echo, tok: tok,
		content: visible{stop: newStopMatcher(p.stop)}, ids: idCollector{wanted: p.returnIDs},
	}
	if tok != nil {
		c.prompt, c.decoder = tok.NewDecoder(true), tok.NewDecoder(showSpecials)
	}
	return c
}

func (c *textChoice) satisfied() bool { return c.content.found != "" }

func (c *textChoice) counts() (completion, reasoning int) { return c.consumed, 0 }

func (c *textChoice) take(ev *engine.Event) []part {
	if c.satisfied() && !ev.Done {
		return nil
	}
	parts := c.echoParts(ev)
	switch ev.Kind {
	case engine.KindDone:
		return append(parts, c.finish(ev)...)
	case engine.KindPrompt:
		return parts
	}
	c.consumed++
	c.ids.add(ev.Token)
	var lp *tokenLogprob
	if c.p.logprobs >= 0 {
		lp = &tokenLogprob{id: ev.Token, value: ev.LogProb, top: ev.Top}
	}
	text := ""
	if !c.p.ends(ev.Token) {
		text = textOf(c.decoder, ev.Token)
	}
	text, lps := c.content.push(text, lp, c.consumed < c.p.minTokens)
	if p := (part{choice: c.index, text: text, logprobs: lps}); !p.empty() {
		parts = append(parts, p)
	}
	c.ids.attach(parts)
	return parts
}

// echoParts gives the prompt back before the answer begins: at once, or with its log-probabilities as they come.
func (c *textChoice) echoParts(ev *engine.Event) []part {
	if c.echo == nil || c.echoed {
		return nil
	}
	p := part{choice: c.index}
	add := func(text string, lp *tokenLogprob) {
		text, lps := c.content.push(text, lp, true)
		p.text += text
		p.logprobs = append(p.logprobs, lps...)
	}
	if c.p.logprobs < 0 {
		c.echoed = true
		if c.tok != nil {
			add(c.tok.Decode(c.echo, true), nil)
		}
	}
	for _, t := range ev.Prompt {
		add(textOf(c.prompt, t.ID), &tokenLogprob{id: t.ID, value: t.LogProb, first: c.seen == 0, top: t.Top})
		c.seen++
	}
	if c.p.logprobs >= 0 && c.seen == len(c.echo) {
		c.echoed = true
		add(restOf(c.prompt), nil)
	}
	if p.empty() {
		return nil
	}
	return []part{p}
}

func (c *textChoice) finish(ev *engine.Event) []part {
	last := part{choice: c.index}
	var parts []part
	if !c.satisfied() {
		text, lps := c.content.push(restOf(c.decoder), nil, false)
		held, more := c.content.flush()
		if p := (part{choice: c.index, text: text + held, logprobs: append(lps, more...)}); !p.empty() {
			parts = append(parts, p)
		}
	}
	last.finish, last.stopped = finishOf(ev, c.content.found, c.p.stopIDs)
	parts = append(parts, last)
	c.ids.attach(parts)
	return parts
}

// textOf decodes a token, if there is a tokenizer.
func textOf(d *tokenizer.Decoder, id int32) string {
	if d == nil {
		return ""
	}
	return d.Push(id)
}

// restOf ends a text, if there is a tokenizer.
func restOf(d *tokenizer.Decoder) string {
	if d == nil {
		return ""
	}
	return d.Flush()
}
