package console

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// jsonKey is what a key holds as scripts get it.
type jsonKey struct {
	Namespace string `json:"namespace"`
	Key       string `json:"key"`
	Kind      string `json:"kind"`
	jsonValue
	Priority *int64 `json:"priority,omitempty"` // of the kind priority
	Slots    int    `json:"slots"`              // writers whose part isn't folded into the base yet
}

const kvLong = `State is kept under keys, in namespaces: a namespace is a NATS key-value bucket
of that name. What a key holds is of one of these kinds, which say how writes of
several writers become one value:

  lww       a register: the last writer wins
  causal    a register that keeps concurrent writes beside each other
  counter   a number that is counted up and down
  gcounter  a number that is counted up only
  max, min  the greatest or least number or string
  set       JSON values; nothing is removed
  orset     JSON values that can be removed; what is added meanwhile stays
  zset      members sorted by score
  map       fields, each of a kind of its own
  priority  the value with the lowest number

Functions write all of them. What the nats CLI puts into the bucket counts as
well: "nats kv put" and "cloudburst kv put" do the same, but for keys with
characters such as ':' or a space, which are stored escaped.`

func (c *console) kv() *cobra.Command {
	var ns string
	cmd := cli.Group("kv", "Read and write state", kvLong, c.kvGet(&ns), c.kvPut(&ns), c.kvList(&ns), c.kvRemove(&ns))
	cmd.PersistentFlags().StringVarP(&ns, "namespace", "n", broker.DefaultNamespace, "namespace of the keys")
	cli.Complete(cmd, "namespace", c.completeAll(c.namespaces))
	c.topo.addIgnored(cmd.PersistentFlags(), "replicas")
	return cmd
}

// mustExist refuses a namespace that isn't there, since to open one is to make it.
func (c *console) mustExist(ctx context.Context, client *cloudburst.Client, ns string) error {
	if err := wire.CheckName("namespace", ns); err != nil {
		return err
	}
	known, err := c.namespaces(ctx, client)
	if err != nil {
		return err
	}
	if slices.Contains(known, ns) {
		return nil
	}
	return &wire.Error{Op: "open namespace", Kind: wire.KindUnknown, Name: ns, Msg: "no such namespace" + cli.DidYouMean(cli.Near(ns, known)) + " (`cloudburst kv put` makes one)"}
}

// bucket opens a namespace that exists.
func (c *console) bucket(ctx context.Context, client *cloudburst.Client, ns string) (*broker.Bucket, error) {
	if err := c.mustExist(ctx, client, ns); err != nil {
		return nil, err
	}
	return client.Broker().OpenBucket(ctx, ns)
}

func (c *console) kvGet(ns *string) *cobra.Command {
	var out outlet
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Print what a key holds",
		Long: `Prints what a key holds: a register's value, a counter's count, a set's elements
as an array, a map as an object. On a terminal its kind follows; -o json always
has it.`,
		Example: `  cloudburst kv get greeting
  cloudburst kv get -n retwis timeline:42
  cloudburst kv get visits -o json | jq -r .kind`,
		Args: cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, args []string) error {
			return cmp.Or(checkKeys(cmd, args), out.check(cmd, c))
		},
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			bucket, err := c.bucket(ctx, client, *ns)
			if err != nil {
				return err
			}
			l, slots, err := held(ctx, bucket, args[0])
			if err != nil {
				return err
			}
			if l == nil {
				return &wire.Error{Op: "get", Name: args[0], Kind: wire.KindUnknown, Msg: "no such key in namespace " + *ns + "; `cloudburst kv ls` lists them"}
			}
			shown := jsonKey{Namespace: *ns, Key: args[0], Kind: string(l.Kind()), jsonValue: jsonOf(l.Value()), Slots: slots}
			if p, ok := l.(interface{ Priority() int64 }); ok {
				shown.Priority = new(p.Priority())
			}
			return c.show(shown, func() error {
				if err := out.put(c, l.Value()); err != nil || !isTerminal(c.Stdout) {
					return err
				}
				if shown.Priority != nil {
					c.notef("(%s %d)", shown.Kind, *shown.Priority)
				} else {
					c.notef("(%s)", shown.Kind)
				}
				return nil
			})
		}),
	}
	out.addFlags(cmd)
	return cmd
}

func (c *console) kvPut(ns *string) *cobra.Command {
	var in input
	var kind string
	kinds := []string{"lww", "max", "min", "set"}
	cmd := &cobra.Command{
		Use:   "put KEY VALUE",
		Short: "Set a key",
		Long: `Sets a key, a register: the last writer wins. Of another kind, VALUE becomes the
maximum or minimum unless there is a further one, or an element of a set. A
namespace that isn't there is made.

VALUE is ` + argumentHelp,
		Example: `  cloudburst kv put greeting '"hello"'
  cloudburst kv put a '[1, 2, 3]'
  cloudburst kv put record 9.58 --kind min
  cloudburst kv put -n images logo @logo.png --type image/png`,
		Args: cobra.ExactArgs(2),
		PreRunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(kinds, kind) {
				return cli.Usagef(cmd, "--kind %s: there are %s", kind, strings.Join(kinds, ", "))
			}
			return checkKeys(cmd, args[:1])
		},
		Annotations: map[string]string{goesOn: "the value may be stored: `cloudburst kv get KEY` tells"},
	}
	cmd.RunE = c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
		v, err := c.value(cmd, in, args[1])
		if err != nil {
			return err
		}
		key, state := args[0], client.State().In(*ns)
		switch kind {
		case "max":
			err = state.Max(key).Raise(ctx, v)
		case "min":
			err = state.Min(key).Lower(ctx, v)
		case "set":
			err = state.Set(key).Add(ctx, v)
		default:
			err = state.Put(ctx, key, v)
		}
		if err != nil {
			return err
		}
		return c.show(map[string]string{"namespace": *ns, "key": args[0]}, func() error { return nil })
	})
	in.addFlags(cmd)
	cmd.Flags().StringVar(&kind, "kind", kinds[0], "what the key is: lww, max, min or set")
	cli.Complete(cmd, "kind", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *console) kvList(ns *string) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List keys",
		Long:  "Lists the keys of a namespace, or those that begin with PREFIX, a line each.",
		Example: `  cloudburst kv ls
  cloudburst kv ls -n retwis timeline: --limit 0 | wc -l`,
		Args: cobra.MaximumNArgs(1),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return cli.Usagef(cmd, "--limit %d: less than 0", limit)
			}
			return nil
		},
		RunE: c.on(callWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			bucket, err := c.bucket(ctx, client, *ns)
			if err != nil {
				return err
			}
			prefix := ""
			if len(args) == 1 {
				prefix = args[0]
			}
			return c.listKeys(ctx, bucket, prefix, limit)
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 1000, "how many at most; 0 lists all")
	return cmd
}

// listKeys prints keys as they come: there may be millions.
func (c *console) listKeys(ctx context.Context, bucket *broker.Bucket, prefix string, limit int) error {
	keys := []string{}
	n, ask := 0, limit
	if limit > 0 {
		ask++ // to know whether there are more
	}
	for key, err := range bucket.Keys(ctx, prefix, ask) {
		if err != nil {
			return err
		}
		if n++; limit > 0 && n > limit {
			break
		}
		if c.json() {
			keys = append(keys, key)
		} else if _, err := fmt.Fprintln(c.Stdout, key); err != nil {
			return err
		}
	}
	switch {
	case n == 0:
		c.notef("No keys.")
	case limit > 0 && n > limit:
		c.notef("There are more than %d keys: --limit 0 lists all.", limit)
	}
	return c.show(keys, func() error { return nil })
}

// checkKeys refuses what can't be a key, before anybody is asked.
func checkKeys(cmd *cobra.Command, keys []string) error {
	if slices.Contains(keys, "") {
		return cli.Usagef(cmd, "a key can't be empty")
	}
	return nil
}

func (c *console) kvRemove(ns *string) *cobra.Command {
	return &cobra.Command{
		Use:   "rm KEY...",
		Short: "Remove keys",
		Long: `Removes keys that hold registers; removing what isn't there is no error, and said.
Keys of other kinds stay.`,
		Example: `  cloudburst kv rm greeting
  cloudburst kv ls draft: | xargs cloudburst kv rm`,
		Args:        cobra.MinimumNArgs(1),
		PreRunE:     checkKeys,
		Annotations: map[string]string{goesOn: "some keys may be removed: `cloudburst kv ls` tells"},
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			bucket, err := c.bucket(ctx, client, *ns)
			if err != nil {
				return err
			}
			state := client.State().In(*ns)
			there := make([]string, 0, len(args))
			for _, key := range args {
				l, _, err := held(ctx, bucket, key)
				if err != nil {
					return err
				}
				if l == nil {
					c.notef("There is no key %q in namespace %s.", key, *ns)
					continue
				}
				if kind := l.Kind(); kind != kvlattice.KindLWW && kind != kvlattice.KindCausal {
					return &wire.Error{Op: "remove", Name: key, Kind: wire.KindConflict, Msg: fmt.Sprintf("the key holds a %s, and only registers can be removed", kind)}
				}
				there = append(there, key)
			}
			return c.removeAll(there, func(key string) error { return state.Delete(ctx, key) })
		}),
	}
}

// held returns what a key holds, nil if there is no such key, and how many slots it has.
func held(ctx context.Context, bucket *broker.Bucket, key string) (kvlattice.Lattice, int, error) {
	snap, err := bucket.Read(ctx, key, 0)
	if err != nil {
		return nil, 0, err
	}
	l, err := snap.Join()
	if err != nil {
		return nil, 0, err
	}
	if d, ok := l.(interface{ Deleted() bool }); l == nil || ok && d.Deleted() {
		return nil, 0, nil
	}
	return l, len(snap.Slots), nil
}
