package testmodel

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestDirAndExpected(t *testing.T) {
	for _, name := range []string{"tiny-a/hf-mxfp4", "tiny-a/hf-bf16", "tiny-square/fused-nf4"} {
		b, err := os.ReadFile(filepath.Join(Dir(t, name), "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(b) {
			t.Errorf("%s: config.json is not JSON", name)
		}
	}
	for _, name := range []string{"tiny-a/mxfp4.json", "tiny-square/unsloth-nf4-dq.json"} {
		if !json.Valid(Expected(t, name)) {
			t.Errorf("%s is not JSON", name)
		}
	}
}
