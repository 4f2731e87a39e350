package cuda

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/model"
)

// reference is GPT-OSS over one sequence in float64, written for nothing but to be right. With round it rounds what the
// kernels keep in BF16 to BF16: how far that moves it from the exact model is the error that BF16 explains.
type reference struct {
	spec   device.Spec
	embed  []float64
	head   []float64
	norm   []float32
	layers []referenceLayer
}

type referenceLayer struct {
	*checkpoint.Layer
	q, k, v, o, router []float64
	gateUp, down       [][]float64
}

func newReference(t testing.TB, c *checkpoint.Checkpoint) *reference {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	r := &reference{}
	r.spec, err = model.NewSpec(c.Config())
	must(err)
	p, err := c.Embedding()
	must(err)
	r.embed = decoded(&dtype.Stack{Even: []dtype.Plane{p}}, 0)
	p, err = c.Head()
	must(err)
	r.head = decoded(&dtype.Stack{Even: []dtype.Plane{p}}, 0)
	r.norm, err = c.FinalNorm()
	must(err)
	for l := range r.spec.Layers {
		w, err := c.Layer(l)
		must(err)
		one := func(p dtype.Plane) []float64 { return decoded(&dtype.Stack{Even: []dtype.Plane{p}}, 0) }
		n := referenceLayer{Layer: w, q: one(w.Q.Weight), k: one(w.K.Weight), v: one(w.V.Weight), o: one(w.O.Weight), router: one(w.Router.Weight)}
		for e := range r.spec.Experts {
			n.gateUp, n.down = append(n.gateUp, decoded(&w.GateUp.Weight, e)), append(n.down, decoded(&w.Down.Weight, e))
		}
		r.layers = append(r.layers, n)
	}
	return r
}

func decoded(s *dtype.Stack, e int) []float64 {
	rows, cols := s.Shape()
	v := make([]float32, rows*cols)
	s.DecodeRows(v, e, 0, rows)
	return widened(v)
}

func widened(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

// times gives w x + bias for one vector.
func times(w []float64, bias []float32, x []float64) []float64 {
	y := make([]float64, len(w)/len(x))
	for i := range y {
		for j, v := range x {
			y[i] += w[i*len(x)+j] * v
		}
		if bias != nil {
			y[i] += float64(bias[i])
		}
	}
	return y
}

// rounder rounds to BF16, or does nothing.
type rounder bool

func (r rounder) all(v []float64) []float64 {
	if r {
		for i := range v {
			v[i] = float64(dtype.FromBF16(dtype.ToBF16(float32(v[i]))))
		}
	}
	return v
}

func (r *reference) normed(x []float64, g []float32) []float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	f := 1 / math.Sqrt(sum/float64(len(x))+float64(r.spec.Eps))
	t := make([]float64, len(x))
	for i := range t {
		t[i] = x[i] * f * float64(g[i])
	}
	return t
}

func (r *reference) rotate(v []float64, position int) {
	for h := 0; h < len(v); h += headDim {
		for i, f := range r.spec.InvFreq {
			angle := float64(float32(position) * f)
			c, s := math.Cos(angle)*float64(r.spec.RopeScale), math.Sin(angle)*float64(r.spec.RopeScale)
			a, b := v[h+i], v[h+i+headDim/2]
			v[h+i], v[h+i+headDim/2] = a*c-b*s, b*c+a*s
		}
	}
}

// run gives the log-probabilities after each token.
func (r *reference) run(ids []int32, round rounder) (all [][]float64) {
	sp := &r.spec
	keys, values := make([][][]float64, sp.Layers), make([][][]float64, sp.Layers)
	for at, id := range ids {
		x := slices.Clone(r.embed[int(id)*sp.Hidden:][:sp.Hidden])
		for l := range r.layers {
			w := &r.layers[l]
			t := round.all(r.normed(x, w.AttnNorm))
			q, k, v := times(w.q, w.Q.Bias, t), times(w.k, w.K.Bias, t), times(w.v, w.V.Bias, t)
			r.rotate(q, at)
			r.rotate(k, at)
			keys[l], values[l] = append(keys[l], round.all(k)), append(values[l], round.all(v))
			a := r.attention(w, round.all(q), keys[l], values[l], sp.Windows[l], round)
			for i, y := range times(w.o, w.O.Bias, round.all(a)) {
				x[i] += y
			}
			r.experts(w, x, round)
		}
		all = append(all, logSoftmax(times(r.head, nil, round.all(r.normed(x, r.norm)))))
	}
	return all
}

func (r *reference) attention(w *referenceLayer, q []float64, keys, values [][]float64, window int, round rounder) []float64 {
	a := make([]float64, len(q))
	first := 0
	if window > 0 {
		first = max(0, len(keys)-window)
	}
	for h := range r.spec.Heads {
		g := h / (r.spec.Heads / r.spec.KVHeads) * headDim
		sink := float64(w.Sinks[h])
		most := sink
		var p []float64
		for _, k := range keys[first:] {
			s := 0.0
			for i := range headDim {
				s += q[h*headDim+i] * k[g+i]
			}
			p = append(p, s/8)
			most = max(most, s/8)
		}
		sum := math.Exp(sink - most)
		for j := range p {
			p[j] = math.Exp(p[j] - most)
			sum += p[j]
		}
		for j, p := range round.all(p) {
			for i := range headDim {
				a[h*headDim+i] += p * values[first+j][g+i] / sum
			}
		}
	}
	return a
}

func (r *reference) experts(w *referenceLayer, x []float64, round rounder) {
	sp := &r.spec
	t := r.normed(x, w.MLPNorm)
	logits := times(w.router, w.Router.Bias, t)
	order := make([]int, sp.Experts)
	for e := range order {
		order[e] = e
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(logits[b], logits[a]) })
	sum := 0.0
	for _, e := range order[:sp.TopK] {
		sum += math.Exp(logits[e] - logits[order[0]])
	}
	round.all(t)
	for _, e := range order[:sp.TopK] {
		gu := times(w.gateUp[e], w.GateUp.Bias[e*2*sp.Intermediate:(e+1)*2*sp.Intermediate], t)
		h := make([]float64, sp.Intermediate)
		limit := float64(sp.SwigluLimit)
		for i := range h {
			g, u := min(gu[2*i], limit), max(-limit, min(gu[2*i+1], limit))
			h[i] = g / (1 + math.Exp(-float64(sp.SwigluAlpha)*g)) * (u + 1)
		}
		share := math.Exp(logits[e]-logits[order[0]]) / sum
		for i, y := range times(w.down[e], w.Down.Bias[e*sp.Hidden:(e+1)*sp.Hidden], round.all(h)) {
			x[i] += share * y
		}
	}
}

func logSoftmax(v []float64) []float64 {
	most, sum := slices.Max(v), 0.0
	for _, x := range v {
		sum += math.Exp(x - most)
	}
	for i := range v {
		v[i] -= most + math.Log(sum)
	}
	return v
}

// The reference is the CPU oracle, to float32's rounding.
func TestReference(t *testing.T) {
	ids := prompts(t, "tiny-a", 48)[1]
	m, host := loadOn(t, cpuDevice(t), "tiny-a/hf-mxfp4")
	b := &device.Batch{Tokens: ids, Seqs: []device.Seq{{Count: len(ids), Full: []int32{0, 1, 2}, Window: []int32{0, 1, 2}}}}
	for i := range ids {
		b.Positions = append(b.Positions, int32(i))
		b.Logits = append(b.Logits, device.LogitRow{Row: i, Target: -1, Top: parityTop})
	}
	exact := newReference(t, openTiny(t, "tiny-a/hf-mxfp4")).run(ids, false)
	if d := compare(exact, distributions(t, m, host, []*device.Batch{b})); d.worst > 2e-4 {
		t.Errorf("%v", d)
	}
}
