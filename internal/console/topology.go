package console

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// topology are the platform's sizes, as flags say them.
type topology struct{ broker.Topology }

// sizeFlags are the sizes that have a flag; `cloudburst platform set` knows all. Whatever
// reserves storage has one, since a server that has too little doesn't start.
var sizeFlags = append([]string{"messages-size", "logs-size"}, ignoredSizes...)

// ignoredSizes are flags that other commands took when every process had to be told.
var ignoredSizes = []string{"replicas", "results-ttl", "results-size", "backlog-size", "dead-ttl", "ack-wait"}

// addFlags adds flags to a command that sets up a platform.
func (t *topology) addFlags(cmd *cobra.Command) {
	for _, size := range broker.Sizes() {
		if slices.Contains(sizeFlags, size.Name) {
			cmd.Flags().Var(&sizeFlag{size, &t.Topology}, size.Name, fmt.Sprintf("%s (default: as what is there, or %s)", size.About, size.Text(broker.Default())))
			cli.Complete(cmd, size.Name, cobra.NoFileCompletions)
		}
	}
}

// addIgnored adds flags that a command took when every process had to be told: they
// change nothing now, and nobody's scripts end for them.
func (t *topology) addIgnored(flags *pflag.FlagSet, names ...string) {
	for _, size := range broker.Sizes() {
		if slices.Contains(names, size.Name) {
			flags.Var(&sizeFlag{size, &t.Topology}, size.Name, size.About)
			if err := flags.MarkDeprecated(size.Name, "it changes nothing: `cloudburst platform set` changes the platform's sizes"); err != nil {
				panic(err) // it is there: the line above
			}
		}
	}
}

// args are the flags that say the same to another process.
func (t *topology) args() []string {
	var args []string
	for _, size := range broker.Sizes() {
		if text := size.Text(t.Topology); text != "" {
			args = append(args, "--"+size.Name, text)
		}
	}
	return args
}

// sizeFlag is one of the platform's sizes as a flag.
type sizeFlag struct {
	size broker.Size
	of   *broker.Topology
}

// String returns what Set reads.
func (f *sizeFlag) String() string {
	if f.of == nil {
		return "" // the flag package asks a zero value
	}
	return f.size.Text(*f.of)
}

// Type names the kind of flag in help texts.
func (f *sizeFlag) Type() string {
	switch f.size.Unit {
	case "bytes":
		return "size"
	case "time":
		return "duration"
	}
	return "int"
}

// Set reads a value such as 3, 5s or 256MiB.
func (f *sizeFlag) Set(text string) error { return f.size.Set(f.of, text) }
