package cuda

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"hearth/internal/testgpu"
)

// The residual is completed, normed and routed, one token or four a block.
func TestNormRoute(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, e := range []struct{ hidden, experts, topK, T, nplanes int }{
			{64, 2, 1, 2, 1}, {192, 32, 4, 3, 2}, {128, 7, 3, 10, 0}, {320, 128, 4, 9, 3}, {64, 256, 8, 5, 1}, {2880, 32, 4, 2, 1}, {64, 33, 8, 13, 4},
		} {
			t.Run(fmt.Sprintf("%d, %d of %d, %d tokens, %d planes", e.hidden, e.topK, e.experts, e.T, e.nplanes), func(t *testing.T) {
				x := newExpertTest(t, c, expertShape(e.hidden, 64, e.experts, e.topK))
				x.normRoute(e.T, e.nplanes)
			})
		}
	})
}

func (t *expertTest) normRoute(T, nplanes int) {
	s, q := t.s, t.c.queue
	l := &layerWeights{}
	r := t.routing(l)
	outBias := t.normal(s.Hidden, 0.5)
	l.o.bias = t.floats(outBias)
	w := t.workspace(T)
	x, planes := t.normal(T*s.Hidden, 2), t.normal(nplanes*T*s.Hidden, 1)
	xDev, tDev := t.floats(x), t.room(2*T*s.Hidden)
	planesDev := t.floats(append(planes, 0))
	t.e.normRoute(q, l, xDev, planesDev, nplanes, tDev, T, w)
	chosen, weight := t.getInts(w.chosen, T*s.TopK), t.getFloats(w.weight, T*s.TopK)
	gotX, gotT := t.getFloats(xDev, T*s.Hidden), t.getBF16s(tDev, T*s.Hidden)
	for i := range T {
		row := x[i*s.Hidden:][:s.Hidden]
		for j := range row {
			sum := float64(row[j]) + float64(outBias[j])
			for n := range nplanes {
				sum += float64(planes[(n*T+i)*s.Hidden+j])
			}
			if !near(t, fmt.Sprintf("x[%d, %d]", i, j), gotX[i*s.Hidden+j], sum, 1e-5) {
				t.FailNow()
			}
			row[j] = float32(sum)
		}
		logits, normed := r.logits(s, row)
		for j, want := range normed {
			if !near(t, fmt.Sprintf("t[%d, %d]", i, j), gotT[i*s.Hidden+j], want, math.Abs(want)*(1.0/256+1e-5)) {
				t.FailNow()
			}
		}
		checkChoice(t, logits, chosen[i*s.TopK:][:s.TopK], weight[i*s.TopK:][:s.TopK])
	}
}

// Equal logits go to the expert with the lower index, on both paths.
func TestRouteTies(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		s := expertShape(64, 64, 40, 4)
		x := newExpertTest(t, c, s)
		src := expertSources[0]
		gu, dn := x.weights(src, 40, 128, 64, true), x.weights(src, 40, 64, 64, false)
		l := x.layer(gu, dn)
		r := x.routing(l)
		clear(r.router)
		clear(r.bias)
		for _, e := range []int{39, 3, 17, 35, 8, 33} {
			r.bias[e] = 1
		}
		r.bias[8] = 2
		want := []int32{8, 3, 17, 33}
		l.router, l.routerBias = x.floats(r.router), x.floats(r.bias)
		w := x.workspace(2)
		in := x.normal(2*64, 1)
		x.e.normRoute(c.queue, l, x.floats(in), 0, 0, x.room(2*2*64), 2, w)
		choice := x.room(8 * 4)
		x.e.gateUpRow(c.queue, l, x.floats(in[:64]), x.put(bytesOf(r.accumulated(s, in[:64]))), x.room(2*4*64), choice)
		if got := x.getInts(w.chosen, 8); !slices.Equal(got, append(slices.Clone(want), want...)) {
			t.Errorf("batch path chose %v, want %v twice", got, want)
		}
		if got := x.getInts(choice, 4); !slices.Equal(got, want) {
			t.Errorf("row path chose %v, want %v", got, want)
		}
	})
}

// Rows are sorted by expert, tokens in order, and every row is in exactly one item of its expert.
func TestSortRows(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, e := range []struct{ experts, topK, T, crowd int }{
			{4, 2, 2, 0}, {32, 4, 8, 0}, {32, 4, 33, 3}, {256, 8, 100, 5}, {3, 1, 300, 5}, {32, 4, 700, 5}, {8, 8, 128, 0}, {128, 4, 257, 10},
		} {
			for _, noLarge := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d of %d, %d tokens, %v", e.topK, e.experts, e.T, noLarge), func(t *testing.T) {
					x := newExpertTest(t, c, expertShape(64, 64, e.experts, e.topK))
					x.e.noLarge = noLarge
					x.sorted(e.T, e.crowd)
				})
			}
		}
	})
}

func (t *expertTest) sorted(T, crowd int) {
	s, q := t.s, t.c.queue
	w := t.workspace(T)
	chosen, _ := t.choices(T, crowd)
	q.upload(w.chosen, bytesOf(chosen))
	t.e.group(q, T, w)
	n := T * s.TopK
	token, place, counts := t.getInts(w.token, n), t.getInts(w.place, n), t.getInts(w.counts, 3)

	order := make([]int, n) // choices, stably by expert
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(chosen[a] - chosen[b]) })
	expert := make([]int32, n)
	for row, c := range order {
		expert[row] = chosen[c]
		if int(place[c]) != row || int(token[row]) != c/s.TopK {
			t.Fatalf("choice %d is at %d with token %d, want %d with %d", c, place[c], token[place[c]], row, c/s.TopK)
		}
	}
	m := t.e.mode(T)
	covered := make([]bool, n)
	for list, at := range []devptr{w.narrow, w.wide, w.large} {
		count, most := int(counts[list]), []int{m.most.narrow, m.most.wide, m.most.large}[list]
		if count > most {
			t.Fatalf("list %d has %d items, the launch covers %d", list, count, most)
		}
		if count == 0 {
			continue
		}
		items := t.getInts(at, 4*count)
		for i := range count {
			e, row, rows, family := items[4*i], items[4*i+1], items[4*i+2], items[4*i+3]
			least, largest := []int{1, m.narrowRows + 1, wideRows + 1}[list], []int{m.narrowRows, wideRows, largeRows}[list]
			if int(rows) < least || int(rows) > largest {
				t.Errorf("list %d item %d has %d rows, want %d to %d", list, i, rows, least, largest)
			}
			if first, in := int(family>>16), int(family&0xffff); list == 2 && (i < first || i >= first+in || items[4*first] != e || items[4*(first+in-1)] != e) {
				t.Errorf("item %d of expert %d is said to be in %d items from %d on", i, e, in, first)
			}
			for r := row; r < row+rows; r++ {
				if covered[r] || expert[r] != e {
					t.Fatalf("row %d of expert %d is in an item of %d, met before: %v", r, expert[r], e, covered[r])
				}
				covered[r] = true
			}
		}
	}
	if i := slices.Index(covered, false); i >= 0 {
		t.Errorf("row %d is in no item", i)
	}
}

// The order in which blocks and warps run changes nothing.
func TestExpertsInAnyOrder(t *testing.T) {
	var first []byte
	for seed := range uint64(3) {
		_, c := simContext(t, testgpu.Config{Shuffle: seed})
		s := expertShape(192, 64, 6, 3)
		x := newExpertTest(t, c, s)
		src := expertSources[4]
		l := x.layer(x.weights(src, 6, 128, 192, true), x.weights(src, 6, 192, 64, false))
		r := x.routing(l)
		const T = 45
		w := x.workspace(T)
		in := x.normal(T*192, 1)
		xDev, tDev := x.floats(in), x.room(2*T*192)
		x.e.normRoute(c.queue, l, xDev, 0, 0, tDev, T, w)
		x.e.group(c.queue, T, w)
		x.e.gateUp(c.queue, l, tDev, T, w)
		x.e.down(c.queue, l, xDev, T, w)
		h, choice, planes := x.room(2*3*64), x.room(8*3), x.room(8*192)
		x.e.gateUpRow(c.queue, l, x.floats(in[:192]), x.put(bytesOf(r.accumulated(s, in[:192]))), h, choice)
		x.e.downRow(c.queue, l, h, choice, planes)
		got := append(x.get(xDev, 4*T*192), x.get(planes, 8*192)...)
		if seed == 0 {
			first = got
		} else if !slices.Equal(first, got) {
			t.Errorf("seed %d gives other bits than seed 0", seed)
		}
	}
}
