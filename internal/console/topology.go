package console

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/broker"
)

// topology is how streams are made, as flags say it. Whatever may make a stream
// takes these flags: all processes of a platform must agree on them.
type topology struct{ broker.Topology }

func (t *topology) addFlags(cmd *cobra.Command) {
	t.addReplicas(cmd)
	flags := cmd.Flags()
	flags.DurationVar(&t.Results, "results-ttl", 0, "how long results are kept (default 1h)")
	flags.Var((*bytesFlag)(&t.ResultsBytes), "results-size", "how much room results have, such as 1GiB (default 256MiB)")
	flags.Var((*bytesFlag)(&t.CallsBytes), "backlog-size", "how much room the waiting calls of a pool have; when it is full, calls are refused (default 1GiB)")
	flags.DurationVar(&t.Dead, "dead-ttl", 0, "how long dead letters are kept (default 168h)")
	flags.DurationVar(&t.AckWait, "ack-wait", 0, "after how long without a sign of life a call goes to another worker (default 5s)")
	for _, name := range []string{"results-ttl", "results-size", "backlog-size", "dead-ttl", "ack-wait"} {
		complete(cmd, name, cobra.NoFileCompletions)
	}
}

// addReplicas adds the one flag that namespaces of state depend on.
func (t *topology) addReplicas(cmd *cobra.Command) {
	cmd.PersistentFlags().IntVar(&t.Replicas, "replicas", 0, "on how many servers the platform keeps everything (default 1)")
	complete(cmd, "replicas", cobra.NoFileCompletions)
}

// bytesFlag is a number of bytes, written with or without a unit.
type bytesFlag int64

// String returns what Set reads.
func (b *bytesFlag) String() string {
	if *b == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Type names the kind of flag in help texts.
func (b *bytesFlag) Type() string { return "size" }

// Set reads a number such as 1048576, 1MiB, 1.5GiB or 1MB.
func (b *bytesFlag) Set(text string) error {
	number := strings.TrimRight(text, "KMGTiBkmgtb ")
	unit := strings.ToLower(strings.TrimSpace(text[len(number):]))
	n, err := strconv.ParseFloat(number, 64)
	factor, known := map[string]float64{
		"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30, "t": 1 << 40, "tib": 1 << 40,
		"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	}[unit]
	if err != nil || !known || !(n*factor >= 1 && n*factor < 1<<62) {
		return fmt.Errorf("not a size: %q; it looks like 1048576, 512MiB or 1.5GiB", text)
	}
	*b = bytesFlag(n * factor)
	return nil
}
