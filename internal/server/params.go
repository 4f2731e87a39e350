package server

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"hearth/internal/engine"
)

// params are the fields that chat and text completions share, checked and with the defaults filled in.
type params struct {
	model        string // as the request names it, or the served one
	stream       bool
	includeUsage bool // a last chunk with the usage
	runningUsage bool // and the usage so far in all others (vLLM)

	n         int
	maxTokens int // -1: not given
	usual     int // tokens of an answer whose request sets no limit; 0: as many as fit
	minTokens int
	stop      []string
	stopIDs   []int32
	ignoreEOS bool
	eos       []int32 // the model's own end ids
	logprobs  int     // -1: none; n: the chosen token and the n most likely

	returnIDs   bool // token ids in the answer (vLLM)
	tokensAsIDs bool // log-probabilities name a token "token_id:N" (vLLM)
	seed        uint64
	base        engine.Request // sampling parameters; the prompt and the limits are put in later
}

const (
	maxStops       = 16
	maxChoices     = 128  // n
	maxAnswers     = 1024 // of all prompts of a request: what the engine's queue holds unless told otherwise
	maxTopLogprobs = 20
	unlimited      = math.MaxInt32 // for token counts

	// leastTemperature is where sampling becomes greedy: below it logits divided by the temperature overflow.
	leastTemperature = 1e-5
)

// readParams takes the shared fields of o. lengthFields name the limit on the answer's length, the first one given
// wins; least is its smallest value.
func (s *Server) readParams(o *object, least int64, lengthFields ...string) params {
	p := params{model: s.checkModel(o), n: 1, maxTokens: -1, logprobs: -1, eos: s.o.EOS}
	p.stream, _ = o.boolean("stream")
	p.readStreamOptions(o)
	if n, ok := o.integer("n", 1, maxChoices); ok {
		p.n = int(n)
	}
	for _, name := range slices.Backward(lengthFields) {
		if n, ok := o.integer(name, least, unlimited); ok {
			p.maxTokens = int(n)
		}
	}
	if n, ok := o.integer("min_tokens", 0, unlimited); ok {
		p.minTokens = int(n)
		if p.maxTokens >= 0 && p.minTokens > p.maxTokens {
			o.fail(invalid("min_tokens", "invalid_value", "min_tokens is %d, more than the %d tokens allowed", p.minTokens, p.maxTokens))
		}
	}
	p.stop = readStop(o)
	p.stopIDs = s.readIDs(o, "stop_token_ids")
	p.ignoreEOS, _ = o.boolean("ignore_eos")
	p.returnIDs, _ = o.boolean("return_token_ids")
	p.tokensAsIDs, _ = o.boolean("return_tokens_as_token_ids")
	s.readSampling(o, &p)
	return p
}

func (p *params) readStreamOptions(o *object) {
	so, ok := o.object("stream_options")
	if !ok {
		return
	}
	if !p.stream {
		o.fail(invalid("stream_options", "invalid_value", "stream_options is only allowed with stream: true"))
		return
	}
	p.includeUsage, _ = so.boolean("include_usage")
	p.runningUsage, _ = so.boolean("continuous_usage_stats")
	p.runningUsage = p.runningUsage && p.includeUsage
	if so.err != nil {
		o.fail(so.err)
	}
}

// readStop takes one stop string or several.
func readStop(o *object) []string {
	const name = "stop"
	raw, ok := o.raw(name)
	if !ok {
		return nil
	}
	var stops []string
	if raw[0] == '"' {
		text, _ := o.text(name)
		stops = []string{text}
	} else {
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			o.wrongType(name, "a string or an array of strings", raw)
		}
		for i, raw := range list {
			var text string
			if err := json.Unmarshal(raw, &text); err != nil || string(raw) == "null" {
				o.wrongType(element(name, i), "a string", raw)
				return nil
			}
			stops = append(stops, text)
		}
	}
	if len(stops) > maxStops {
		o.fail(invalid(name, "invalid_value", "stop has %d strings, at most %d are allowed", len(stops), maxStops))
	}
	if i := slices.Index(stops, ""); i >= 0 {
		o.fail(invalid(name, "invalid_value", "stop holds an empty string"))
	}
	return stops
}

// readIDs takes an array of token ids of the model.
func (s *Server) readIDs(o *object, name string) []int32 {
	list, _ := o.array(name)
	var ids []int32
	for i, raw := range list {
		id, ok := o.asInteger(element(name, i), raw, 0, int64(s.o.Vocab)-1)
		if !ok {
			return nil
		}
		ids = append(ids, int32(id))
	}
	return ids
}

// readSampling takes the sampling parameters, after the server's defaults.
func (s *Server) readSampling(o *object, p *params) {
	d := &s.o.Defaults
	q := &p.base.Sampling
	q.Temperature, q.TopP, q.TopK, q.MinP, q.Repetition = 1, 1, d.TopK, d.MinP, d.Repetition
	if d.Temperature != nil {
		q.Temperature = *d.Temperature
	}
	if d.TopP != nil {
		q.TopP = *d.TopP
	}
	take := func(dst *float32, name string, lo, hi float64) {
		if v, ok := o.number(name, lo, hi); ok {
			*dst = float32(v)
		}
	}
	take(&q.Temperature, "temperature", 0, 2)
	take(&q.TopP, "top_p", 0, 1)
	take(&q.MinP, "min_p", 0, 1)
	take(&q.Presence, "presence_penalty", -2, 2)
	take(&q.Frequency, "frequency_penalty", -2, 2)
	take(&q.Repetition, "repetition_penalty", 0.01, 100)
	if q.Temperature < leastTemperature {
		q.Temperature = 0
	}
	if q.TopP == 0 {
		o.fail(invalid("top_p", "invalid_value", "top_p must be above 0 and at most 1, got 0"))
	}
	if k, ok := o.integer("top_k", -1, unlimited); ok {
		q.TopK = max(int(k), 0) // vLLM writes -1 for all
	}
	if seed, ok := o.integer("seed", math.MinInt64, math.MaxInt64); ok {
		p.seed = uint64(seed)
	} else {
		p.seed = rand.Uint64()
	}
	s.readBias(o, p)
}

// readBias takes logit_bias: a map from token id, written as a string, to what is added to its logit.
func (s *Server) readBias(o *object, p *params) {
	bias, ok := o.object("logit_bias")
	if !ok {
		return
	}
	q := &p.base.Sampling
	for name := range bias.fields {
		id, err := strconv.ParseInt(name, 10, 32)
		if err != nil || id < 0 || int(id) >= s.o.Vocab {
			o.fail(invalid(bias.at(name), "invalid_value",
				"logit_bias names the token %q, it must be an id from 0 to %d", brief([]byte(name)), s.o.Vocab-1))
			return
		}
		if v, ok := bias.number(name, -100, 100); ok {
			q.Bias = append(q.Bias, engine.Bias{ID: int32(id), Value: float32(v)})
		}
	}
	if bias.err != nil {
		o.fail(bias.err)
	}
	slices.SortFunc(q.Bias, func(a, b engine.Bias) int { return int(a.ID) - int(b.ID) })
}

// ends reports that a token ends an answer. Neither kind can be drawn before min_tokens.
func (p *params) ends(id int32) bool {
	return slices.Contains(p.stopIDs, id) || !p.ignoreEOS && slices.Contains(p.eos, id)
}

// request is the engine's request for choice i of a prompt. maxTokens is the limit that holds, given or not.
func (p *params) request(prompt []int32, i, maxTokens int) engine.Request {
	r := p.base
	r.Prompt = prompt
	r.MaxTokens, r.MinTokens = maxTokens, p.minTokens
	r.Stop, r.EOS, r.IgnoreEOS = p.stopIDs, p.eos, p.ignoreEOS
	r.Logprobs, r.PromptLogprobs = p.logprobs, -1
	r.Sampling.Seed = p.seed + uint64(i)
	return r
}

// checkPrompt refuses an empty prompt, ids that the model does not have, and a length that does not fit. It returns
// the limit on the answer's length. field is where the prompt came from; typed says that its ids came from text.
func (s *Server) checkPrompt(p *params, field string, prompt []int32, typed bool) (int, *apiError) {
	if len(prompt) == 0 {
		return 0, invalid(field, "invalid_value", "%s is empty: the model needs at least one token", field)
	}
	for i, id := range prompt {
		if id >= 0 && int(id) < s.o.Vocab {
			continue
		}
		if typed {
			return 0, invalid(field, "invalid_value",
				"%s encodes to token id %d, but the model's vocabulary has %d ids (0 to %d): the tokenizer (%s) is not this model's, start the server with --tokenizer PATH",
				field, id, s.o.Vocab, s.o.Vocab-1, s.o.Tokenizer.Name())
		}
		return 0, invalid(element(field, i), "invalid_value",
			"%s is token id %d, the model's vocabulary has %d ids (0 to %d)", element(field, i), id, s.o.Vocab, s.o.Vocab-1)
	}
	maxTokens, room := p.maxTokens, s.o.MaxContext-len(prompt)
	switch {
	case maxTokens < 0 && p.usual > 0:
		maxTokens = min(max(p.usual, p.minTokens), room)
	case maxTokens < 0:
		maxTokens = room
	}
	if maxTokens > room || room < 1 && maxTokens != 0 {
		return 0, errContext(field, len(prompt), maxTokens, s.o.MaxContext)
	}
	return maxTokens, nil
}
