package engine

import (
	"slices"
	"time"

	"hearth/internal/kvcache"
)

// job is a request on its way. It belongs to the loop, but for the handle.
type job struct {
	Request
	handle *Handle

	tokens   []int32      // the prompt and what was generated
	seq      *kvcache.Seq // nil while the job waits
	sampling Sampling     // as the device gets it
	early    []int32      // ids that may not be drawn before MinTokens
	late     []int32      // and from then on

	published                        int    // prompt tokens whose log-probabilities were sent
	cached                           int    // prompt tokens that were found in the cache when the job was first admitted
	retry                            uint64 // the step before which it is not tried again to admit the job
	submitted, admitted, first, last time.Time
	preemptions                      int

	ended bool
	end   Event
}

func newJob(e *Engine, r Request) *job {
	j := &job{Request: r, tokens: r.Prompt, sampling: r.Sampling, submitted: time.Now()}
	j.late = r.Sampling.Banned
	if r.MinTokens > 0 {
		j.early = slices.Concat(r.Sampling.Banned, r.EOS, r.Stop)
	}
	j.handle = newHandle(e, j)
	return j
}

// pending is how many known tokens have no keys and values yet. The last of them gives the next token.
func (j *job) pending() int { return len(j.tokens) - j.seq.Len() }

func (j *job) generated() int { return len(j.tokens) - len(j.Prompt) }

// resumed reports that the job had been admitted before.
func (j *job) resumed() bool { return !j.admitted.IsZero() }

// reusable is how many positions may come from the prefix cache. A position whose log-probabilities are asked for
// must be computed.
func (j *job) reusable() int {
	if j.unpublished() {
		return max(0, j.published-1)
	}
	return len(j.tokens)
}

// unpublished reports that log-probabilities of the prompt are still to be sent.
func (j *job) unpublished() bool {
	return j.PromptLogprobs >= 0 && j.published < len(j.Prompt)
}

// promptRows is the part of positions [from, to) whose logits give the log-probability of a prompt token: position p
// gives that of token p+1.
func (j *job) promptRows(from, to int) (int, int) {
	if !j.unpublished() {
		return from, from
	}
	from = max(from, j.published-1)
	return from, max(from, min(to, len(j.Prompt)-1))
}

// samples reports that a batch which ends before position to draws a token.
func (j *job) samples(to int) bool { return to == len(j.tokens) && j.MaxTokens > 0 }

// draw is what the device is told of the next draw.
func (j *job) draw() *Sampling {
	j.sampling.Prompt, j.sampling.Output = j.Prompt, j.tokens[len(j.Prompt):]
	j.sampling.Banned = j.late
	if j.generated() < j.MinTokens {
		j.sampling.Banned = j.early
	}
	return &j.sampling
}

// stops reports whether a token ends the request.
func (j *job) stops(token int32) bool {
	return !j.IgnoreEOS && slices.Contains(j.EOS, token) || slices.Contains(j.Stop, token)
}

func (j *job) usage() Usage {
	return Usage{Prompt: len(j.Prompt), Cached: j.cached, Completion: j.generated()}
}

// timings divides the job's time, which ends now.
func (j *job) timings(now time.Time) Timings {
	t := Timings{Total: now.Sub(j.submitted), Preemptions: j.preemptions}
	switch {
	case j.admitted.IsZero():
		t.Queue = t.Total
	case j.first.IsZero():
		t.Queue, t.Prefill = j.admitted.Sub(j.submitted), now.Sub(j.admitted)
	default:
		t.Queue, t.Prefill, t.Decode = j.admitted.Sub(j.submitted), j.first.Sub(j.admitted), now.Sub(j.first)
	}
	return t
}
