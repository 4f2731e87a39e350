package cuda

// One token whose experts have no row kernel (BF16, and bitsandbytes' fused 4-bit tensors): routed from the output
// projection's sums, it goes through the kernels for up to 8 rows as TopK rows of different experts.
type oneToken struct {
	memory                 buffer
	t                      devptr // BF16 [Hidden]
	token, items, count, y devptr // int32 [TopK], [TopK], int32, float32 [TopK, Hidden]
}

func (e *expertOps) prepareOne() error {
	s, o := e.shape, &e.one
	k := int64(s.TopK)
	parts := []part{{&o.t, 2 * int64(s.Hidden)}, {&o.token, 4 * k}, {&o.items, itemBytes * k}, {&o.count, 4}, {&o.y, 4 * k * int64(s.Hidden)}}
	var err error
	o.memory, err = e.keep(partsBytes(parts), useWorkspace)
	placeParts(parts, o.memory.ptr)
	return err
}

// gateUpOne is gateUpRow without a row kernel.
func (e *expertOps) gateUpOne(q *queue, l *layerWeights, x, acc, h, choice devptr) {
	s, o := e.shape, &e.one
	r := routeOneParams{
		x: x, norm: l.mlpNorm, routerBias: l.routerBias, acc: acc, t: o.t, choice: choice, token: o.token, items: o.items, count: o.count,
		hidden: int32(s.Hidden), experts: int32(s.Experts), topK: int32(s.TopK), eps: s.Eps,
	}
	launch(q, e.route.routeOne, dim{1, 1, 1}, dim{oneThreads, 1, 1}, 0, &r)
	p := groupParams{w: l.gateUp.arg(), x: o.t, token: o.token, out: h, alpha: s.SwigluAlpha, limit: s.SwigluLimit, factor: 1}
	e.oneItems(q, &l.gateUp, true, &p)
}

// downOne is downRow without a row kernel.
func (e *expertOps) downOne(q *queue, l *layerWeights, h, choice, planes devptr) {
	s, o := e.shape, &e.one
	p := groupParams{w: l.down.arg(), x: h, out: o.y, factor: 1}
	e.oneItems(q, &l.down, false, &p)
	r := sumOneParams{y: o.y, choice: choice, planes: planes, hidden: int32(s.Hidden), topK: int32(s.TopK)}
	launch(q, e.route.sumOne, dim{ceilDiv(s.Hidden, oneThreads), 1, 1}, dim{oneThreads, 1, 1}, 0, &r)
}

func (e *expertOps) oneItems(q *queue, x *expertWeight, gateUp bool, p *groupParams) {
	g := e.groups[x.format]
	k := g.downNarrow
	if gateUp {
		k = g.gateUpNarrow
	}
	p.item, p.count = e.one.items, e.one.count
	launch(q, k, dim{ceilDiv(x.rows/tileRows, narrowTiles), e.shape.TopK, 1}, dim{groupWarps * 32, 1, 1}, x.format.groupShared(narrowRows, 1), p)
}
