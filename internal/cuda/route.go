package cuda

import (
	"fmt"
	"unsafe"
)

// routeKernels choose experts and sort rows by them.
type routeKernels struct{ normRoute1, normRoute4, sortRows, combine, routeOne, sumOne *kernel }

// The parameter structs mirror those of kernels/route.cu.
type normRouteParams struct {
	x, planes, outBias, norm, router, routerBias, t, chosen, weight devptr
	tokens, hidden, experts, topK, nplanes                          int32
	eps                                                             float32
}

type sortParams struct {
	chosen, token, place, narrow, wide, large, counts devptr
	n, topK, experts, narrowRows, largeRows, padding  int32
}

type combineParams struct {
	x, y, place, weight devptr
	hidden, topK        int32
}

type routeOneParams struct {
	x, norm, routerBias, acc, t, choice, token, items, count devptr
	hidden, experts, topK                                    int32
	eps                                                      float32
}

type sumOneParams struct {
	y, choice, planes devptr
	hidden, topK      int32
}

const (
	routeThreads   = 512
	routeWarps     = routeThreads / 32
	sortThreads    = 1024
	combineThreads = 256
	oneThreads     = 256
	largeRows      = 128 // of an item for the prefill kernels
	itemBytes      = 16
)

// routeShared is the shared memory of normRoute for a number of tokens a block.
func (s *shape) routeShared(tokens int) int {
	return 4 * tokens * (routeWarps + s.Hidden + routeWarps*s.Experts)
}

// routeSharedMost is the most shared memory that normRoute takes, of the 99 KiB that every card allows a block.
const routeSharedMost = 96 << 10

func (e *expertOps) prepareRoute() error {
	s := e.shape
	if n := s.routeShared(1); n > routeSharedMost {
		return fmt.Errorf("hidden size %d with %d experts needs %d bytes of shared memory to route, at most %d are there", s.Hidden, s.Experts, n, routeSharedMost)
	}
	four := s.routeShared(4)
	if four > routeSharedMost {
		four = 0
	}
	for _, k := range []struct {
		to     **kernel
		name   string
		shared int
		params uintptr
	}{
		{&e.route.normRoute1, "normRoute1", s.routeShared(1), unsafe.Sizeof(normRouteParams{})},
		{&e.route.normRoute4, "normRoute4", four, unsafe.Sizeof(normRouteParams{})},
		{&e.route.sortRows, "sortRows", 0, unsafe.Sizeof(sortParams{})},
		{&e.route.combine, "combine", 0, unsafe.Sizeof(combineParams{})},
		{&e.route.routeOne, "routeOne", 0, unsafe.Sizeof(routeOneParams{})},
		{&e.route.sumOne, "sumOne", 0, unsafe.Sizeof(sumOneParams{})},
	} {
		var err error
		if *k.to, err = e.c.kernel(kernelSpec{module: "route", name: k.name, shared: k.shared, params: k.params}); err != nil {
			return err
		}
	}
	return nil
}

// itemCounts is the number of items of each kind of work.
type itemCounts struct{ narrow, wide, large int }

// batchMode says how the rows of T tokens are cut into work. It depends on T alone.
type batchMode struct {
	narrowRows, largeRows int
	most                  itemCounts // that T tokens can give
}

// mode: items of up to 8 rows are worth a launch of their own while most experts have so few. An expert of more than 32
// rows is cut into items of 128; what is left of them, if at most 32 rows, is wide work.
func (e *expertOps) mode(T int) batchMode {
	s := e.shape
	n := T * s.TopK
	most := min(T, n) // rows of one expert
	var m batchMode
	if most <= narrowRows || n <= 6*s.Experts {
		m.narrowRows = narrowRows
		m.most.narrow = min(s.Experts, n)
	}
	if most > wideRows && !e.noLarge {
		m.largeRows = largeRows
		m.most.large = n / (wideRows + 1)
	}
	switch {
	case most <= m.narrowRows:
	case m.largeRows > 0 || most <= wideRows:
		m.most.wide = min(s.Experts, n/(m.narrowRows+1))
	default: // runs of 32, and a rest for each expert
		m.most.wide = n/wideRows + min(s.Experts, n)
	}
	return m
}

// expertWorkspace is what the experts need of memory for a batch: lists of work of its own, and room for h and y, which
// others may use before GateUp writes h and after Down has read y.
type expertWorkspace struct {
	memory buffer

	chosen, weight      devptr // int32 and float32 [T, TopK]
	token, place        devptr // int32 [T*TopK]
	narrow, wide, large devptr // items
	counts              devptr // int32 [3]
	h                   devptr // BF16 [T*TopK, Intermediate]
	y                   devptr // float32 [T*TopK, Hidden]
}

// products are the sizes of h and y.
func (e *expertOps) products(maxTokens int) (h, y int64) {
	n := int64(maxTokens) * int64(e.shape.TopK)
	return 2 * n * int64(e.shape.Intermediate), 4 * n * int64(e.shape.Hidden)
}

// workspaceParts lists the lists of a workspace with their sizes.
func (e *expertOps) workspaceParts(w *expertWorkspace, maxTokens int) []part {
	s := e.shape
	n := int64(maxTokens) * int64(s.TopK)
	items := itemBytes * (n/wideRows + int64(s.Experts))
	return []part{
		{&w.chosen, 4 * n}, {&w.weight, 4 * n}, {&w.token, 4 * n}, {&w.place, 4 * n}, {&w.counts, 3 * 4},
		{&w.narrow, itemBytes * int64(s.Experts)}, {&w.wide, items}, {&w.large, items},
	}
}

// part is a piece of a buffer.
type part struct {
	to   *devptr
	size int64
}

func partsBytes(parts []part) (n int64) {
	for _, p := range parts {
		n += roundUp(p.size, alignment)
	}
	return n
}

func placeParts(parts []part, at devptr) {
	for _, p := range parts {
		*p.to = at
		at += devptr(roundUp(p.size, alignment))
	}
}

// newWorkspace makes the lists for batches of up to maxTokens tokens; h and y are for the caller to set. Close frees the
// lists.
func (e *expertOps) newWorkspace(maxTokens int) (*expertWorkspace, error) {
	if most := maxTokens*e.shape.TopK/wideRows + e.shape.Experts; most > 65535 {
		return nil, fmt.Errorf("batches of %d tokens make %d pieces of work for the experts, at most 65535 fit: lower --max-num-batched-tokens", maxTokens, most)
	}
	w := &expertWorkspace{}
	parts := e.workspaceParts(w, maxTokens)
	var err error
	if w.memory, err = e.c.alloc(partsBytes(parts), useWorkspace); err != nil {
		return nil, err
	}
	placeParts(parts, w.memory.ptr)
	return w, nil
}

func (w *expertWorkspace) close(c *context) { c.free(w.memory) }

// normRoute completes the residual, x = x + planes + the output projection's bias; t = norm(x), BF16 [T, Hidden]; and
// chooses each token's experts, with float32 router logits of the norm before it is rounded.
func (e *expertOps) normRoute(q *queue, l *layerWeights, x, planes devptr, nplanes int, t devptr, T int, w *expertWorkspace) {
	s := e.shape
	p := normRouteParams{
		x: x, planes: planes, outBias: l.o.bias, norm: l.mlpNorm, router: l.router, routerBias: l.routerBias, t: t, chosen: w.chosen, weight: w.weight,
		tokens: int32(T), hidden: int32(s.Hidden), experts: int32(s.Experts), topK: int32(s.TopK), nplanes: int32(nplanes), eps: s.Eps,
	}
	if T > 2*s.sms && e.route.normRoute4.shared > 0 {
		launch(q, e.route.normRoute4, dim{ceilDiv(T, 4), 1, 1}, dim{routeThreads, 1, 1}, s.routeShared(4), &p)
		return
	}
	launch(q, e.route.normRoute1, dim{T, 1, 1}, dim{routeThreads, 1, 1}, s.routeShared(1), &p)
}

// group sorts the chosen rows by expert and writes the lists of work.
func (e *expertOps) group(q *queue, T int, w *expertWorkspace) {
	s, m := e.shape, e.mode(T)
	p := sortParams{
		chosen: w.chosen, token: w.token, place: w.place, narrow: w.narrow, wide: w.wide, large: w.large, counts: w.counts,
		n: int32(T * s.TopK), topK: int32(s.TopK), experts: int32(s.Experts), narrowRows: int32(m.narrowRows), largeRows: int32(m.largeRows),
	}
	launch(q, e.route.sortRows, dim{1, 1, 1}, dim{sortThreads, 1, 1}, 0, &p)
}

func (e *expertOps) combine(q *queue, x devptr, T int, w *expertWorkspace) {
	s := e.shape
	p := combineParams{x: x, y: w.y, place: w.place, weight: w.weight, hidden: int32(s.Hidden), topK: int32(s.TopK)}
	launch(q, e.route.combine, dim{T, ceilDiv(s.Hidden/4, combineThreads), 1}, dim{combineThreads, 1, 1}, 0, &p)
}
