package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/cloudburst-nats/cloudburst/bench"
)

func main() {
	ctx := context.Background()
	if len(os.Args) > 2 && os.Args[1] == "bench" {
		if err := bench.Role(ctx, os.Args[3:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if p := os.Getenv("CPUPROF"); p != "" {
		f, _ := os.Create(p)
		pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	cfg := bench.Config{Transports: os.Args[1:], Rounds: 3}
	if err := bench.Call(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
