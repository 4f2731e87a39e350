// Command hearth serves OpenAI's GPT-OSS models from the hardware that people own.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"hearth/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
