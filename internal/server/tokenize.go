package server

type tokenizeAnswer struct {
	Count       int      `json:"count"`
	MaxModelLen int      `json:"max_model_len"`
	Tokens      []int32  `json:"tokens"`
	TokenStrs   []string `json:"token_strs"`
}

// tokenize answers POST /tokenize: the ids of a text, or of the prompt that messages make.
func (s *Server) tokenize(o *object) (any, *apiError) {
	if s.o.Tokenizer == nil {
		return nil, errNoTokenizer("/tokenize")
	}
	s.checkModel(o)
	text, isText := o.text(fieldPrompt)
	withText, _ := o.boolean("return_token_strs")
	_, isChat := o.raw(fieldMessages)
	if o.err != nil {
		return nil, o.err
	}
	a := &tokenizeAnswer{MaxModelLen: s.o.MaxContext, Tokens: []int32{}}
	switch {
	case isText:
		a.Tokens = s.o.Tokenizer.EncodeSpecial(a.Tokens, text)
	case isChat && s.o.Harmony != nil:
		req, err := s.readMessages(o)
		if err != nil {
			return nil, err
		}
		p, err := s.render(req)
		if err != nil {
			return nil, err
		}
		a.Tokens = p.IDs
	case isChat:
		return nil, errNoTokenizer("chat")
	default:
		return nil, invalid(fieldPrompt, "missing_required_parameter", "prompt or messages is missing")
	}
	a.Count = len(a.Tokens)
	if withText {
		n := names{tok: s.o.Tokenizer}
		a.TokenStrs = []string{}
		for _, id := range a.Tokens {
			a.TokenStrs = append(a.TokenStrs, n.label(id))
		}
	}
	return a, nil
}

// detokenize answers POST /detokenize: the text of ids, special tokens by their names.
func (s *Server) detokenize(o *object) (any, *apiError) {
	if s.o.Tokenizer == nil {
		return nil, errNoTokenizer("/detokenize")
	}
	s.checkModel(o)
	ids := s.readIDs(o, "tokens")
	if _, ok := o.raw("tokens"); !ok && o.err == nil {
		return nil, invalid("tokens", "missing_required_parameter", "tokens is missing")
	}
	if o.err != nil {
		return nil, o.err
	}
	return map[string]string{"prompt": s.o.Tokenizer.Decode(ids, true)}, nil
}

// checkModel takes the model's name and returns it, or the served one where none is named.
func (s *Server) checkModel(o *object) string {
	m, ok := o.text("model")
	if !ok || m == "" {
		return s.o.ModelID
	}
	if !s.serves(m) {
		o.fail(errModelNotFound(m, s.o.ModelID))
	}
	return m
}
