// Command cloudburst-bench measures Cloudburst beside bare NATS, and tries to break it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloudburst-nats/cloudburst/bench/commands"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends what runs in order; a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(commands.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
