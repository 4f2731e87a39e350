// Package cli holds the commands of hearth and is the only place that picks a device and wires the parts of the house
// together. It computes nothing itself and nothing imports it but main.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Streams are the process's input and outputs. Answers go to Out, everything about them to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer

	gpus openGPU // nil: those of this machine
}

// Main runs one command line and returns the exit status: 0 done, 1 failed, 2 called wrongly.
func Main(ctx context.Context, args []string, s Streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(s.Err, "hearth: %v\nRun 'hearth help' or '%s --help'.\n", err, usage.command)
		return 2
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 130
	}
	fmt.Fprintf(s.Err, "hearth: %v\n", err)
	return 1
}

// usageError is a command line that no command understands.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func newRoot(s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "hearth",
		Short: "Serve GPT-OSS models from your own hardware",
		Long: `Hearth serves OpenAI's GPT-OSS models (gpt-oss-20b, gpt-oss-120b and fine-tunes of them) behind an
OpenAI-compatible URL. It reads every checkpoint in its own format and keeps attention sinks and sliding windows.`,
		Example: `  hearth serve ./gpt-oss-20b            # an API at http://127.0.0.1:8000/v1
  hearth chat ./gpt-oss-20b             # talk in the terminal
  hearth inspect ./gpt-oss-20b          # what is in the folder, and does it fit`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, args []string) error {
			return c.Help()
		},
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{c.CommandPath(), err} })
	root.AddCommand(newServe(s), newChat(s), newInspect(s), newConvert(s), newEval(s), newBench(s), newDoctor(s), newPull(s), newVersion(s))
	return root
}

// exactly turns cobra's argument check into a usage error that names what is missing.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		if len(args) < n {
			return &usageError{c.CommandPath(), fmt.Errorf("%s needs %s", c.CommandPath(), what)}
		}
		return &usageError{c.CommandPath(), fmt.Errorf("%s takes only %s, got also %q", c.CommandPath(), what, args[n])}
	}
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
