package console

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/broker/wire"
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

// args are the flags that say the same to another process.
func (t *topology) args() []string {
	var args []string
	add := func(name, value string, given bool) {
		if given {
			args = append(args, "--"+name, value)
		}
	}
	add("replicas", strconv.Itoa(t.Replicas), t.Replicas != 0)
	add("results-ttl", t.Results.String(), t.Results != 0)
	add("results-size", strconv.FormatInt(t.ResultsBytes, 10), t.ResultsBytes != 0)
	add("backlog-size", strconv.FormatInt(t.CallsBytes, 10), t.CallsBytes != 0)
	add("dead-ttl", t.Dead.String(), t.Dead != 0)
	add("ack-wait", t.AckWait.String(), t.AckWait != 0)
	return args
}

// addReplicas adds the one flag that namespaces of state depend on.
func (t *topology) addReplicas(cmd *cobra.Command) {
	cmd.PersistentFlags().IntVar(&t.Replicas, "replicas", 0, "on how many servers the platform keeps everything (default: as what is there, or 1)")
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
	n, err := wire.ParseSize(text)
	if err != nil {
		return err
	}
	*b = bytesFlag(n)
	return nil
}
