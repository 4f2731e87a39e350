package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hearth/internal/engine"
)

// Metrics counts for Prometheus, under the names that vLLM gave these numbers: dashboards and the endpoint picker of
// the Kubernetes inference gateway know them. It observes the engine, so it is made first and given to both.
type Metrics struct {
	registry *prometheus.Registry
	labels   prometheus.Labels // on every series of the engine

	finished     map[engine.FinishReason]prometheus.Counter
	firstToken   prometheus.Histogram
	interToken   prometheus.Histogram
	total        prometheus.Histogram
	queue        prometheus.Histogram
	inference    prometheus.Histogram
	prefill      prometheus.Histogram
	decode       prometheus.Histogram
	prompt       prometheus.Histogram
	generation   prometheus.Histogram
	maxTokens    prometheus.Histogram
	iteration    prometheus.Histogram
	httpRequests *prometheus.CounterVec
	httpDuration *prometheus.HistogramVec
}

// Bounds of the histograms, vLLM's.
var (
	firstTokenBounds = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	interTokenBounds = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	requestBounds    = []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
	iterationBounds  = []float64{1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}
	countBounds      = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
)

// NewMetrics makes the series of one engine that serves the named model.
func NewMetrics(modelID string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), labels: prometheus.Labels{"model_name": modelID, "engine": "0"}}
	histogram := func(name, help string, bounds []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vllm:" + name, Help: help, ConstLabels: m.labels, Buckets: bounds})
		m.registry.MustRegister(h)
		return h
	}
	m.firstToken = histogram("time_to_first_token_seconds", "Time from a request's arrival to its first token.", firstTokenBounds)
	m.interToken = histogram("inter_token_latency_seconds", "Time between two tokens of a request.", interTokenBounds)
	m.total = histogram("e2e_request_latency_seconds", "Time from a request's arrival to its end.", requestBounds)
	m.queue = histogram("request_queue_time_seconds", "Time a request waited.", requestBounds)
	m.inference = histogram("request_inference_time_seconds", "Time a request ran.", requestBounds)
	m.prefill = histogram("request_prefill_time_seconds", "Time a request spent on its prompt.", requestBounds)
	m.decode = histogram("request_decode_time_seconds", "Time a request spent on its answer.", requestBounds)
	m.prompt = histogram("request_prompt_tokens", "Prompt tokens of a request.", countBounds)
	m.generation = histogram("request_generation_tokens", "Generated tokens of a request.", countBounds)
	m.maxTokens = histogram("request_params_max_tokens", "The most tokens that a request may generate.", countBounds)
	m.iteration = histogram("iteration_tokens_total", "Tokens computed in a step.", iterationBounds)

	finished := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vllm:request_success_total", Help: "Requests that ended, by reason.", ConstLabels: m.labels,
	}, []string{"finished_reason"})
	m.finished = map[engine.FinishReason]prometheus.Counter{}
	for _, r := range []engine.FinishReason{engine.ReasonStop, engine.ReasonLength, engine.ReasonAbort, engine.ReasonError} {
		m.finished[r] = finished.WithLabelValues(r.String())
	}
	m.httpRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "HTTP requests answered.",
	}, []string{"handler", "method", "status"})
	m.httpDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_request_duration_seconds", Help: "Time to answer an HTTP request.", Buckets: firstTokenBounds,
	}, []string{"handler", "method"})
	m.registry.MustRegister(finished, m.httpRequests, m.httpDuration, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Queued is called by the engine.
func (m *Metrics) Queued(_, maxTokens int) { m.maxTokens.Observe(float64(maxTokens)) }

// Step is called by the engine.
func (m *Metrics) Step(tokens, _ int) { m.iteration.Observe(float64(tokens)) }

// FirstToken is called by the engine.
func (m *Metrics) FirstToken(d time.Duration) { m.firstToken.Observe(d.Seconds()) }

// Token is called by the engine.
func (m *Metrics) Token(d time.Duration) { m.interToken.Observe(d.Seconds()) }

// Finished is called by the engine.
func (m *Metrics) Finished(reason engine.FinishReason, u engine.Usage, t engine.Timings) {
	m.finished[reason].Inc()
	m.total.Observe(t.Total.Seconds())
	m.queue.Observe(t.Queue.Seconds())
	m.inference.Observe((t.Prefill + t.Decode).Seconds())
	m.prefill.Observe(t.Prefill.Seconds())
	m.decode.Observe(t.Decode.Seconds())
	m.prompt.Observe(float64(u.Prompt))
	m.generation.Observe(float64(u.Completion))
}

// handler serves /metrics for an engine.
func (m *Metrics) handler(e *engine.Engine) (http.Handler, error) {
	if err := m.registry.Register(newStatsCollector(e, m.labels)); err != nil {
		return nil, err
	}
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}), nil
}

// answered counts an HTTP request. pattern is its route, so that the number of series stays small.
func (m *Metrics) answered(pattern, method string, status int, took time.Duration) {
	if pattern == "" || pattern == "/" {
		pattern, method = "none", "any" // no route, and a method may be any word
	}
	m.httpRequests.WithLabelValues(pattern, method, strconv.Itoa(status)).Inc()
	m.httpDuration.WithLabelValues(pattern, method).Observe(took.Seconds())
}

// statsCollector reads the engine's statistics when they are asked for.
type statsCollector struct {
	engine *engine.Engine
	series []statsSeries
}

type statsSeries struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*engine.Stats) float64
}

func newStatsCollector(e *engine.Engine, labels prometheus.Labels) *statsCollector {
	c := &statsCollector{engine: e}
	add := func(kind prometheus.ValueType, name, help string, value func(*engine.Stats) float64) {
		c.series = append(c.series, statsSeries{prometheus.NewDesc("vllm:"+name, help, nil, labels), kind, value})
	}
	gauge := func(name, help string, value func(*engine.Stats) float64) {
		add(prometheus.GaugeValue, name, help, value)
	}
	counter := func(name, help string, value func(*engine.Stats) uint64) {
		add(prometheus.CounterValue, name, help, func(s *engine.Stats) float64 { return float64(value(s)) })
	}
	gauge("num_requests_running", "Requests that the engine computes.", func(s *engine.Stats) float64 { return float64(s.Running) })
	gauge("num_requests_waiting", "Requests that wait.", func(s *engine.Stats) float64 { return float64(s.Waiting) })
	gauge("kv_cache_usage_perc", "Share of the KV pages that running requests hold, 0 to 1.", kvUsage)
	counter("prompt_tokens_total", "Prompt tokens of admitted requests.", func(s *engine.Stats) uint64 { return s.PromptTokens })
	counter("generation_tokens_total", "Generated tokens.", func(s *engine.Stats) uint64 { return s.GenerationTokens })
	counter("num_preemptions_total", "Requests that had to make room.", func(s *engine.Stats) uint64 { return s.Preemptions })
	counter("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", func(s *engine.Stats) uint64 { return s.PrefixQueries })
	counter("prefix_cache_hits_total", "Of those, found.", func(s *engine.Stats) uint64 { return s.PrefixHits })
	return c
}

// kvUsage is that of the fuller pool: either one can keep a request waiting.
func kvUsage(s *engine.Stats) float64 {
	used := func(p engine.PageStats) float64 {
		if p.Total == 0 {
			return 0
		}
		return float64(p.Total-p.Free-p.Cached) / float64(p.Total)
	}
	return max(used(s.Full), used(s.Window))
}

// Describe implements prometheus.Collector.
func (c *statsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range c.series {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (c *statsCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.engine.Stats()
	for _, s := range c.series {
		ch <- prometheus.MustNewConstMetric(s.desc, s.kind, s.value(&st))
	}
}
