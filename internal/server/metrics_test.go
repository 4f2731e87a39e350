package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hearth/internal/engine"
)

// TestMetrics: the names that dashboards and the inference gateway look for are there, and count.
func TestMetrics(t *testing.T) {
	m := NewMetrics("tiny")
	ids := []int32{1, 2, 604}
	model := &fakeModel{answer: func([]int32, uint64) []int32 { return ids }}
	r := newRigOf(t, model, engine.Options{Observer: m, PrefixCache: true}, func(o *Options) { o.Metrics = m })
	r.post("/v1/completions", `{"prompt":[1,2,3,4],"n":2}`)
	r.post("/v1/completions", `{"prompt":[1,2,3,4],"max_tokens":2}`)
	r.post("/v1/completions", `{"prompt":[]}`)
	r.do(http.MethodGet, "/nowhere", "")
	r.do("BREW", "/nowhere/else", "")

	const labels = `{engine="0",model_name="tiny"}`
	const reason = `vllm:request_success_total{engine="0",finished_reason=`
	want := []string{
		"vllm:num_requests_running" + labels + " 0",
		"vllm:num_requests_waiting" + labels + " 0",
		"vllm:kv_cache_usage_perc" + labels + " 0",
		"vllm:prompt_tokens_total" + labels + " 12",
		"vllm:generation_tokens_total" + labels + " 8",
		"vllm:num_preemptions_total" + labels + " 0",
		"vllm:prefix_cache_queries_total" + labels + " 12",
		"vllm:prefix_cache_hits_total" + labels + " 0",
		"vllm:time_to_first_token_seconds_count" + labels + " 3",
		"vllm:inter_token_latency_seconds_count" + labels + " 5",
		"vllm:e2e_request_latency_seconds_count" + labels + " 3",
		"vllm:request_prompt_tokens_sum" + labels + " 12",
		"vllm:request_generation_tokens_sum" + labels + " 8",
		"vllm:request_params_max_tokens_sum" + labels + " 34",
		reason + `"stop",model_name="tiny"} 2`,
		reason + `"length",model_name="tiny"} 1`,
		reason + `"abort",model_name="tiny"} 0`,
		`http_requests_total{handler="/v1/completions",method="POST",status="200"} 2`,
		`http_requests_total{handler="/v1/completions",method="POST",status="400"} 1`,
		`http_requests_total{handler="none",method="any",status="404"} 2`,
	}
	lines := strings.Split(r.do(http.MethodGet, "/metrics", "").Body.String(), "\n")
	var got []string
	for _, w := range want {
		series := w[:strings.LastIndexByte(w, ' ')]
		for _, l := range lines {
			if strings.HasPrefix(l, series+" ") {
				got = append(got, l)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if w := newRig(t, "x").do(http.MethodGet, "/metrics", ""); w.Code != http.StatusNotFound {
		t.Errorf("without metrics: status %d", w.Code)
	}
}
