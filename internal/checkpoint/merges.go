package checkpoint

// GGUFText gives what the metadata of a GGUF file says under keys that hold a string, such as tokenizer.chat_template,
// or a list of strings, such as tokenizer.ggml.merges; ok is false for other checkpoints and where the key is missing or
// of another kind. The checkpoint must be open.
func (c *Checkpoint) GGUFText(key string) (list []string, ok bool) {
	if c.vocabulary == nil || len(c.files) == 0 {
		return nil, false
	}
	f, err := readGGUF(c.files[0].path, c.files[0].data)
	if err != nil {
		return nil, false // Open read it already
	}
	v, ok := f.meta[key]
	switch {
	case !ok:
		return nil, false
	case v.kind == kindString:
		return []string{string(v.data)}, true
	case v.kind != kindArray || v.elem != kindString:
		return nil, false
	}
	list = make([]string, 0, v.n)
	for _, s := range v.strings() {
		list = append(list, string(s))
	}
	return list, true
}
