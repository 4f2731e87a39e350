package server

import (
	"bytes"
	"encoding/json"
)

const fieldPrompt = "prompt"

// prompt is one prompt of a completion request.
type prompt struct {
	path  string // of the field that holds it
	ids   []int32
	typed bool // it came as text
}

// readCompletion checks the body of POST /v1/completions.
func (s *Server) readCompletion(o *object) (*job, *apiError) {
	p := s.readParams(o, 0, "max_tokens")
	p.usual = 16
	if n, ok := o.integer("logprobs", 0, maxTopLogprobs); ok {
		p.logprobs = int(n)
	}
	echo, _ := o.boolean("echo")
	hide, given := o.boolean("skip_special_tokens")
	if text, ok := o.text("suffix"); ok && text != "" {
		o.fail(invalid("suffix", "unsupported_parameter", "suffix is not supported: the model cannot fill in before a text"))
	}
	if best, ok := o.integer("best_of", 1, maxChoices); ok && int(best) > p.n {
		o.fail(invalid("best_of", "unsupported_parameter", "best_of above n is not supported: ask for n answers with logprobs and choose"))
	}
	prompts := s.readPrompts(o)
	if total := len(prompts) * p.n; total > maxAnswers {
		o.fail(invalid("n", "invalid_value", "%d prompts with n = %d are %d answers, at most %d are allowed in one request", len(prompts), p.n, total, maxAnswers))
	}
	if o.err != nil {
		return nil, o.err
	}
	p.returnIDs = p.returnIDs || s.o.Tokenizer == nil // else the answer would be lost
	j := &job{p: &p, field: fieldPrompt}
	f := &textForm{head: s.head(&p, "cmpl-"), p: &p, names: names{tok: s.o.Tokenizer, asID: p.tokensAsIDs}}
	for _, one := range prompts {
		maxTokens, err := s.checkPrompt(&p, one.path, one.ids, one.typed)
		if err != nil {
			return nil, err
		}
		f.prompts = append(f.prompts, one.ids)
		var back []int32
		if echo {
			back = one.ids
		}
		for i := range p.n {
			r := p.request(one.ids, i, maxTokens)
			if echo {
				r.PromptLogprobs = p.logprobs
			}
			index := len(j.requests)
			j.requests = append(j.requests, r)
			j.choices = append(j.choices, newTextChoice(index, &p, s.o.Tokenizer, back, given && !hide))
		}
	}
	f.sent = make([]bool, len(j.choices))
	j.form = f
	return j, nil
}

// readPrompts takes the prompt in any of its four forms: a text, token ids, or a list of either.
func (s *Server) readPrompts(o *object) []prompt {
	raw, ok := o.raw(fieldPrompt)
	if !ok {
		o.fail(invalid(fieldPrompt, "missing_required_parameter", "prompt is missing"))
		return nil
	}
	switch raw[0] {
	case '"':
		return s.readPrompt(o, fieldPrompt, raw, nil)
	case '[':
	default:
		o.wrongType(fieldPrompt, "a string, an array of token ids, or an array of either", raw)
		return nil
	}
	list, _ := o.asArray(fieldPrompt, raw)
	if len(list) == 0 {
		o.fail(invalid(fieldPrompt, "invalid_value", "prompt is an empty array"))
		return nil
	}
	if isNumber(list[0]) {
		return s.readPrompt(o, fieldPrompt, raw, nil)
	}
	if len(list) > maxAnswers {
		o.fail(invalid(fieldPrompt, "invalid_value", "prompt holds %d prompts, at most %d are allowed in one request", len(list), maxAnswers))
		return nil
	}
	var all []prompt
	for i, raw := range list {
		all = s.readPrompt(o, element(fieldPrompt, i), raw, all)
	}
	return all
}

// readPrompt appends one prompt. Special tokens spelled in a text become their ids, unlike in a chat: this is how
// people write Harmony by hand.
func (s *Server) readPrompt(o *object, path string, raw json.RawMessage, all []prompt) []prompt {
	if len(raw) > 0 && raw[0] == '"' {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			o.wrongType(path, "a string", raw)
			return all
		}
		if s.o.Tokenizer == nil {
			o.fail(errNoTokenizer("a prompt of text"))
			return all
		}
		return append(all, prompt{path: path, ids: s.o.Tokenizer.EncodeSpecial(nil, text), typed: true})
	}
	if len(raw) == 0 || raw[0] != '[' {
		o.wrongType(path, "a string or an array of token ids", raw)
		return all
	}
	return append(all, prompt{path: path, ids: readTokens(o, path, raw)})
}

// readTokens reads token ids. Whether the model has them is checked with the prompt.
func readTokens(o *object, path string, raw json.RawMessage) []int32 {
	var ids []int32
	if !bytes.Contains(raw, []byte("null")) && json.Unmarshal(raw, &ids) == nil {
		return ids // the common case, without a slice for each element; a null would pass as 0
	}
	list, _ := o.asArray(path, raw)
	for i, raw := range list {
		id, ok := o.asInteger(element(path, i), raw, 0, unlimited)
		if !ok {
			return nil
		}
		ids = append(ids, int32(id))
	}
	return ids
}

// textForm writes the answers of /v1/completions.
type textForm struct {
	head    head
	p       *params
	names   names
	prompts [][]int32
	sent    []bool // whether a choice's prompt ids have gone out
}

func (f *textForm) start(usage any) *textAnswer {
	a := &textAnswer{head: f.head, Choices: []textChoiceJSON{}, Usage: usage}
	a.Object = "text_completion"
	return a
}

func (f *textForm) opening(any) []any { return nil }

func (f *textForm) chunk(p part, usage any) any {
	c := textChoiceJSON{Index: p.choice, Text: p.text, Finish: optional(p.finish), Stopped: p.stopped, TokenIDs: p.tokens}
	if len(p.logprobs) > 0 {
		c.Logprobs = f.names.text(p.logprobs)
	}
	if f.p.returnIDs && !f.sent[p.choice] {
		f.sent[p.choice] = true
		c.PromptIDs = f.prompts[p.choice/f.p.n]
	}
	a := f.start(usage)
	a.Choices = append(a.Choices, c)
	return a
}

func (f *textForm) closing(u usage) any { return f.start(&u) }

func (f *textForm) whole(answers []answer, u usage) any {
	t := f.start(&u)
	for i := range answers {
		a := &answers[i]
		c := textChoiceJSON{Index: i, Text: a.text.String(), Finish: optional(a.finish), Stopped: a.stopped, TokenIDs: a.tokens}
		if f.p.logprobs >= 0 {
			c.Logprobs = f.names.text(a.logprobs)
		}
		if f.p.returnIDs {
			c.PromptIDs = f.prompts[i/f.p.n]
		}
		t.Choices = append(t.Choices, c)
	}
	return t
}
