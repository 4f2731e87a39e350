package convert

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
)

// elementRank orders the tensors of a safetensors file as the library that owns the format does: large elements first,
// so that every tensor is aligned.
var elementRank = map[string]int{"F32": 0, "BF16": 1, "F16": 2, "U8": 3}

// shard divides the tensors into safetensors files as Hugging Face does: each is filled in the order of the model until
// the next tensor would pass the limit, and numbered from 1; several have an index.
func (p *Plan) shard(stem string) {
	var groups [][]*Tensor
	var size int64
	for _, t := range p.Tensors {
		if len(groups) == 0 || size+t.Bytes > p.opt.ShardBytes && size > 0 {
			groups, size = append(groups, nil), 0
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], t)
		size += t.Bytes
	}
	index := map[string]string{}
	var total int64
	for i, list := range groups {
		name := stem + ".safetensors"
		if len(groups) > 1 {
			name = fmt.Sprintf("%s-%05d-of-%05d.safetensors", stem, i+1, len(groups))
		}
		p.files = append(p.files, safetensors(name, i, list))
		for _, t := range list {
			index[t.Name] = name
			total += t.Bytes
		}
	}
	if len(groups) > 1 {
		p.extra = append(p.extra, sideFile{stem + ".safetensors.index.json", indented(map[string]any{
			"metadata": map[string]any{"total_size": total}, "weight_map": index,
		})})
	}
}

// safetensors places tensors in a file and makes its header.
func safetensors(name string, number int, list []*Tensor) outFile {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *Tensor) int {
		return cmp.Or(elementRank[a.DType]-elementRank[b.DType], cmp.Compare(a.Name, b.Name))
	})
	h := []byte(`{"__metadata__":{"format":"pt"}`)
	at := int64(0)
	for _, t := range list {
		entry, err := json.Marshal(struct {
			DType   string   `json:"dtype"`
			Shape   []int    `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{t.DType, t.Shape, [2]int64{at, at + t.Bytes}})
		if err != nil {
			panic(err) // plain numbers and strings
		}
		h = fmt.Appendf(h, `,%q:%s`, t.Name, entry)
		t.File, t.file, t.Offset = name, number, at
		at += t.Bytes
	}
	h = append(h, '}')
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	start := int64(8 + len(h))
	for _, t := range list {
		t.Offset += start
	}
	return outFile{name: name, header: append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...), size: start + at}
}

// indented is JSON as Hugging Face writes it: sorted keys, two spaces.
func indented(v any) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, unescaped(v), "", "  "); err != nil {
		panic(err) // values of our own making
	}
	return b.Bytes()
}
