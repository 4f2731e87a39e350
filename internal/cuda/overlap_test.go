package cuda

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"hearth/internal/device"
	"hearth/internal/testgpu"
)

// A card on which kernels may begin early computes the same bits, and no kernel touches before its wait what another may
// still be writing: the interpreter stops it. Cards and drivers that cannot are left alone.
func TestReplayEqualsEagerOverlapping(t *testing.T) {
	for _, x := range []struct {
		folder  string
		options Options
	}{
		{"tiny-square/hf-mxfp4", Options{}}, {"tiny-square/hf-mxfp4", Options{Int8KV: true, Int8Dense: true}},
		{"tiny-square/unsloth-nf4-dq", Options{}}, {"tiny-a/hf-bf16", Options{}},
	} {
		kind, _, _ := strings.Cut(x.folder, "/")
		batches := decodeBatches(prompts(t, kind, 48)[:2])
		var runs [][][]float64
		for _, c := range []struct {
			config testgpu.Config
			early  bool
		}{
			{testgpu.Config{SMs: 6}, false}, {testgpu.Config{SMs: 6, Major: 9, Driver: 12020}, false}, {testgpu.Config{SMs: 6, Major: 9, Driver: 12030}, true},
		} {
			m, ctx := simContext(t, c.config)
			got, card := loadOn(t, &Device{c: ctx, options: x.options}, x.folder)
			runs = append(runs, distributions(t, got, card, batches))
			if n := m.calls["cuLaunchKernelEx"]; n > 0 != c.early {
				t.Errorf("%+v: %d overlapping launches", c.config, n)
			}
		}
		for i := range runs[0] {
			for _, other := range runs[1:] {
				if !slices.Equal(runs[0][i], other[i]) {
					t.Fatalf("%s: row %d differs: %v", x.folder, i, compare(runs[0][i:i+1], other[i:i+1]))
				}
			}
		}
	}
}

// decodeBatches are a chunk of each sequence, two tokens of both, and three of the first alone.
func decodeBatches(ids [][]int32) (batches []*device.Batch) {
	for step := range 6 {
		b := &device.Batch{}
		for i := range ids {
			first, n := step+9, 1
			if step == 0 {
				first, n = 0, 10
			}
			if i == 1 && step > 2 {
				continue
			}
			table := []int32{int32(i), int32(i + 2)}
			b.Seqs = append(b.Seqs, device.Seq{First: len(b.Tokens), Count: n, Full: table, Window: table})
			for j := first; j < first+n; j++ {
				b.Tokens, b.Positions = append(b.Tokens, ids[i][j]), append(b.Positions, int32(j))
			}
			b.Logits = append(b.Logits, device.LogitRow{Row: len(b.Tokens) - 1, Target: -1})
		}
		batches = append(batches, b)
	}
	return batches
}

// Every kernel of a file with the comments waits, once the comments are instructions; the text is otherwise the same.
func TestOverlapText(t *testing.T) {
	_, c := simContext(t, testgpu.Config{Major: 9})
	files, err := fs.Glob(ptxFiles, "kernels/*.ptx")
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, file := range files {
		plain, err := ptxFiles.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := c.ptx(file)
		if err != nil {
			t.Fatal(err)
		}
		all, err := ptxEntries(text)
		if err != nil {
			t.Fatal(file, err)
		}
		early := bytes.Contains(plain, overlapMark)
		for name, e := range all {
			if e.waits != early {
				t.Errorf("%s: kernel %s waits: %v", file, name, e.waits)
			}
		}
		if bytes.Equal(plain, text) == early {
			t.Errorf("%s: changed: %v", file, !early)
		}
		if !early {
			continue
		}
		changed++
		if bytes.Contains(text, overlapMark) || !bytes.Contains(text, []byte("\n.version 7.8\n.target sm_90\n")) {
			t.Errorf("%s: not for 9.0: %.200s", file, text)
		}
	}
	if changed == 0 {
		t.Error("no file has the comments")
	}
}
