package cli

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"hearth/internal/testmodel"
)

func TestWarm(t *testing.T) {
	f := &modelFlags{where: deviceFlags{device: "cpu"}, kvBytes: 64 << 20, maxModelLen: 512}
	r, err := load(testmodel.Dir(t, "tiny-a/openai-original"), f, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	free := r.device.Free
	r.device.Free = 1000
	r.warm(&out, io.Discard, slog.New(slog.DiscardHandler))
	if got := out.String(); !strings.Contains(got, "do not fit into the 1000 B") || r.stopWarming != nil {
		t.Errorf("with too little memory: %q", got)
	}
	r.device.Free = free
	r.warm(&out, io.Discard, slog.New(slog.DiscardHandler))
	if r.stopWarming == nil {
		t.Error("nothing is warmed")
	}
	if err := r.Close(); err != nil { // while it is at work, or after
		t.Error(err)
	}
}
