package console

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// jsonPlatform is the platform's sizes as scripts get them.
type jsonPlatform struct {
	Sizes  []jsonSize   `json:"sizes"`
	ByHand []jsonByHand `json:"by_hand"` // never null
}

type jsonSize struct {
	Name    string `json:"name"`
	Value   int64  `json:"value"` // in Unit
	Default int64  `json:"default"`
	Unit    string `json:"unit"` // servers, ms or bytes
	Text    string `json:"text"` // as `platform set` reads it
	About   string `json:"about"`
}

type jsonByHand struct {
	Stream string `json:"stream"`
	Field  string `json:"field"`
	Found  string `json:"found"`
	Would  string `json:"would"`
}

const platformLong = `A platform keeps its sizes and times itself, in the key "topology" of its bucket
cb_platform. The first server writes them there, from its flags or the defaults.
Workers, gateways, clients and commands read them, and need no flags.

Without a command it shows what is in force. Settings that somebody changed at a
stream itself (nats stream edit) are listed below: they stay. Those that a promise
rests on, such as allow_atomic of a namespace, are put right when a server starts.`

func (c *console) platform() *cobra.Command {
	cmd := cli.Group("platform", "Show and change the platform's sizes", platformLong, c.platformSet())
	cmd.Example = `  cloudburst platform
  cloudburst platform -o json | jq -r '.sizes[] | select(.value != .default).name'
  cloudburst platform set backlog-size=4GiB dead-ttl=720h`
	cmd.RunE = c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, _ []string) error {
		return c.showPlatform(ctx, client)
	})
	return cmd
}

func (c *console) platformSet() *cobra.Command {
	var names []string
	about := new(strings.Builder)
	for _, size := range broker.Sizes() {
		names = append(names, size.Name+"=")
		fmt.Fprintf(about, "  %-14s %s (%s)\n", size.Name, size.About, size.Text(broker.Default()))
	}
	cmd := &cobra.Command{
		Use:   "set NAME=VALUE...",
		Short: "Change the platform's sizes",
		Long: `Changes sizes and times for the whole platform: its record, the streams and
consumers that are there, and those that are made later. Who runs follows at once.
A server that is started with another value in a flag changes it again.

` + about.String() + `
A smaller room or a shorter time drops what doesn't fit any more. More replicas
need as many servers.`,
		Example: `  cloudburst platform set backlog-size=4GiB
  cloudburst platform set ack-wait=10s results-ttl=24h
  cloudburst platform set replicas=3`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp),
	}
	cmd.Annotations = map[string]string{goesOn: "the sizes may be changed: `cloudburst platform` shows them"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given, err := parseSizes(args)
		if err != nil {
			return cli.Usage(cmd, err)
		}
		return c.on(changeWithin, func(ctx context.Context, client *cloudburst.Client, _ []string) error {
			if _, _, err := client.Broker().PlatformSizes(ctx); err != nil { // it makes no platform
				return err
			}
			if _, err := client.Broker().Resize(ctx, given); err != nil {
				return err
			}
			return c.showPlatform(ctx, client)
		})(cmd, args)
	}
	return cmd
}

// parseSizes reads NAME=VALUE pairs.
func parseSizes(args []string) (broker.Topology, error) {
	var t broker.Topology
	var names []string
	byName, seen := make(map[string]broker.Size), make(map[string]bool)
	for _, size := range broker.Sizes() {
		names = append(names, size.Name)
		byName[size.Name] = size
	}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		size, known := byName[name]
		switch {
		case !ok:
			return t, fmt.Errorf("%q: want NAME=VALUE, such as backlog-size=4GiB", arg)
		case !known:
			return t, fmt.Errorf("there is no size %q%s", name, cli.DidYouMean(cli.Near(name, names)))
		case seen[name]:
			return t, fmt.Errorf("%s is there twice: want one value", name)
		}
		seen[name] = true
		if err := size.Set(&t, value); err != nil {
			return t, err
		}
	}
	return t, nil
}

func (c *console) showPlatform(ctx context.Context, client *cloudburst.Client) error {
	t, byHand, err := client.Broker().PlatformSizes(ctx)
	if err != nil {
		return err
	}
	shown := jsonPlatform{ByHand: []jsonByHand{}}
	var rows [][]any
	for _, size := range broker.Sizes() {
		unit := size.Unit
		if unit == "time" {
			unit = "ms"
		}
		def := broker.Default()
		shown.Sizes = append(shown.Sizes, jsonSize{size.Name, size.Number(t), size.Number(def), unit, size.Text(t), size.About})
		rows = append(rows, []any{size.Name, size.Text(t), size.Text(def), size.About})
	}
	var hand [][]any
	for _, h := range byHand {
		shown.ByHand = append(shown.ByHand, jsonByHand{h.Stream, h.Field, h.Found, h.Would})
		hand = append(hand, []any{h.Stream, h.Field, h.Found, h.Would})
	}
	return c.show(shown, func() error {
		if err := c.table([]any{"name", "value", "default", "what it is"}, rows); err != nil || len(hand) == 0 {
			return err
		}
		c.notef("\nSomebody changed these at the streams. They stay:")
		return c.table([]any{"stream", "field", "is", "would be"}, hand)
	})
}
