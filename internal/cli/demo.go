package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"hearth/demo"
	"hearth/internal/server"
)

// demoName stands for the embedded model on a command line, and is its name in the API.
const demoName = "hearth-demo"

// modelArg is the model of a command line, the embedded one where none is named.
func modelArg(args []string) string {
	if len(args) == 0 {
		return demoName
	}
	return args[0]
}

// unpackDemo writes the embedded model where a checkpoint can be mapped: the user's cache, or a temporary folder.
func unpackDemo() (string, error) {
	if base, err := os.UserCacheDir(); err == nil {
		if dir, err := demo.Unpack(filepath.Join(base, "hearth")); err == nil {
			return dir, nil
		}
	}
	dir, err := demo.Unpack(filepath.Join(os.TempDir(), "hearth"))
	if err != nil {
		return "", fmt.Errorf("the embedded model cannot be unpacked: %w", err)
	}
	return dir, nil
}

// atMost is exactly for an argument that may be left out.
func atMost(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return &usageError{c.CommandPath(), fmt.Errorf("%s takes only %s, got also %q", c.CommandPath(), what, args[n])}
	}
}

// samplingDefaults are what a model's generation_config.json recommends for requests that do not say; a model without
// one is sampled as OpenAI does. The file is the model's, so a wrong value is an error and not a surprise.
func samplingDefaults(path string) (server.Defaults, error) {
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		path = filepath.Dir(path)
	}
	path = filepath.Join(path, "generation_config.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return server.Defaults{}, nil
	}
	if err != nil {
		return server.Defaults{}, err
	}
	var c struct {
		DoSample    *bool    `json:"do_sample"`
		Temperature *float32 `json:"temperature"`
		TopP        *float32 `json:"top_p"`
		TopK        int      `json:"top_k"`
		MinP        float32  `json:"min_p"`
		Repetition  float32  `json:"repetition_penalty"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return server.Defaults{}, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case c.Temperature != nil && (*c.Temperature < 0 || *c.Temperature > 2):
		return server.Defaults{}, fmt.Errorf("%s: temperature %v: want 0 to 2", path, *c.Temperature)
	case c.TopP != nil && (*c.TopP <= 0 || *c.TopP > 1):
		return server.Defaults{}, fmt.Errorf("%s: top_p %v: want more than 0 and at most 1", path, *c.TopP)
	case c.TopK < 0 || c.MinP < 0 || c.MinP > 1 || c.Repetition < 0:
		return server.Defaults{}, fmt.Errorf("%s: top_k %d, min_p %v, repetition_penalty %v: out of range", path, c.TopK, c.MinP, c.Repetition)
	}
	if c.DoSample != nil && !*c.DoSample && c.Temperature == nil {
		c.Temperature = new(float32) // transformers' word for greedy
	}
	return server.Defaults{Temperature: c.Temperature, TopP: c.TopP, TopK: c.TopK, MinP: c.MinP, Repetition: c.Repetition}, nil
}
