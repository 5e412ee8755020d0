package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/bench"
	"github.com/cloudburst-nats/cloudburst/bench/anomalies"
	"github.com/cloudburst-nats/cloudburst/bench/deployed"
	"github.com/cloudburst-nats/cloudburst/bench/faults"
	"github.com/cloudburst-nats/cloudburst/bench/fleetsim"
	"github.com/cloudburst-nats/cloudburst/bench/paper"
	"github.com/cloudburst-nats/cloudburst/bench/poolsim"
	"github.com/cloudburst-nats/cloudburst/bench/report"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

func benchAll(c *console) *cobra.Command {
	var out, store string
	var only []string
	var short bool
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Run all benchmarks and write one report",
		Long: `Runs all benchmarks, one after the other, and writes what they measured as one
Markdown document: what each is about, its rows as a table, and charts, which GitHub
and other viewers of Mermaid draw. It takes about twenty minutes, or two with --short,
whose figures are rougher, and wants a machine that does nothing else. A benchmark
that fails is said in the report, and the exit code is 1. With -o json all rows go to
standard output too.`,
		Example: `  cloudburst-bench all --out report.md
  cloudburst-bench all --short
  cloudburst-bench all --only composition,gossip,prediction,retwis`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = run(func(ctx context.Context) error {
		sections := c.sections(short, store)
		if len(only) > 0 {
			for _, name := range only {
				if !slices.ContainsFunc(sections, func(s report.Section) bool { return s.Name == name }) {
					return cli.Usagef(cmd, "there is no benchmark %s: %s", name, strings.Join(sectionNames(), ", "))
				}
			}
			sections = slices.DeleteFunc(sections, func(s report.Section) bool { return !slices.Contains(only, s.Name) })
		}
		return c.writeReport(ctx, out, report.Config{
			Sections: sections, Command: strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " "), Progress: c.stderr,
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "report.md", "file to write the report to")
	flags.BoolVar(&short, "short", false, "measure everything for a short time")
	flags.StringSliceVar(&only, "only", nil, "only these: "+strings.Join(sectionNames(), ", "))
	storeFlag(cmd, &store)
	cli.Complete(cmd, "only", cobra.FixedCompletions(sectionNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// writeReport writes the report to a file, which is there before anything is measured.
func (c *console) writeReport(ctx context.Context, path string, cfg report.Config) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if c.json() {
		cfg.Rows = c.stdout
	}
	if err := report.Write(ctx, cfg, file); err != nil {
		return err
	}
	if !c.json() {
		_, err = fmt.Fprintf(c.stdout, "wrote %s\n", path)
	}
	return err
}

// sectionNames are those of all sections.
func sectionNames() []string {
	var names []string
	for _, s := range new(console).sections(true, "") {
		names = append(names, s.Name)
	}
	return names
}

// sections returns what the report has, in its order: each benchmark with sizes that
// take some minutes at most, or some seconds if it is to be short.
func (c *console) sections(short bool, store string) []report.Section {
	return slices.Concat(c.basicSections(short, store), c.paperSections(short, store), c.codeSections(short, store), c.platformSections(short, store))
}

// pick chooses between the sizes of a short report and of a long one.
func pick[T any](short bool, brief, full T) T {
	if short {
		return brief
	}
	return full
}

// basicSections are of calls and state.
func (c *console) basicSections(short bool, store string) []report.Section {
	processes := map[string]string{"transport": bench.Processes}
	return []report.Section{
		{
			Name: "call", Title: "Calls beside bare NATS",
			About: "A call, a DAG of two nodes, a cached read and a stored write, beside the same messages on bare streams (floor), on each transport; the ratios are to the floor.",
			Charts: []report.Chart{
				{Title: "one by one, over processes", Label: "case", Value: "p50_us", Unit: "p50, µs", Where: processes},
				{Title: "64 at once, over processes, as a share of the floor's", Label: "case", Value: "ratio_per_s", Unit: "share", Where: processes},
			},
			Run: func(ctx context.Context, out io.Writer) error {
				cfg := bench.Config{JSON: true, Store: store}
				if short {
					cfg.Transports, cfg.Serial, cfg.Rounds, cfg.Count = []string{bench.Processes}, 300, 2, 3000
				}
				return bench.Call(ctx, cfg, out)
			},
		},
		{
			Name: "hotkey", Title: "One key, many writers",
			About:  "Eight writers add to one key, by reading it and writing it back if nobody wrote since (cas), and by merging; the sum is checked. Then what a read of a much written key costs.",
			Charts: []report.Chart{{Title: "additions to one key", Label: "case", Value: "per_s", Unit: "a second"}},
			Run: func(ctx context.Context, out io.Writer) error {
				return bench.HotKey(ctx, bench.HotKeyConfig{JSON: true, Store: store, For: pick(short, 300*time.Millisecond, 0), Rounds: pick(short, 1, 0), Each: pick(short, 50, 0)}, out)
			},
		},
		{
			Name: "consistency", Title: "The consistency levels",
			About: "The paper's experiment (section 6.2): random DAGs over keys drawn by Zipf's law, at each level. Latency is divided by the longest path; anomalies are reads at lww that the level excludes. In 4,000 executions the paper counted 904 (causal-key), 939 (causal), 1,043 (session-causal) and 46 (repeatable), but writes that were dropped where this counts reads; at p99 it saw repeatable at 1.8 times lww, and session-causal at 9 times.",
			Charts: []report.Chart{
				{Title: "a node of a DAG, p50", Label: "case", Value: "p50_us", Unit: "µs"},
				{Title: "a node of a DAG, p99", Label: "case", Value: "p99_us", Unit: "µs"},
			},
			Run: func(ctx context.Context, out io.Writer) error {
				cfg := anomalies.Config{Seed: 1, Store: store}
				if short {
					cfg.Requests, cfg.Keys, cfg.DAGs, cfg.Rounds = 40, 1000, 50, 1
				}
				r, err := anomalies.Run(ctx, cfg)
				if err != nil {
					return err
				}
				return errors.Join(r.Write(out, true), r.Err())
			},
		},
	}
}

// paperSections are the experiments of the paper.
func (c *console) paperSections(short bool, store string) []report.Section {
	common := paper.Common{JSON: true, Store: store}
	return []report.Section{
		{
			Name: "composition", Title: "Two functions composed",
			About: "square(increment(x)) over two workers in six ways (the paper's section 6.1.1); the ratios are to a chain of plain NATS micro services, which stores nothing.",
			Charts: []report.Chart{
				{Title: "square(increment(x)), one by one", Label: "case", Value: "p50_us", Unit: "p50, µs"},
				{Title: "square(increment(x)), 8 callers", Label: "case", Value: "per_s", Unit: "a second"},
			},
			Run: func(ctx context.Context, out io.Writer) error {
				return paper.Composition(ctx, paper.CompositionConfig{Common: common, Calls: pick(short, 300, 0)}, out)
			},
		},
		{
			Name: "gossip", Title: "An average, by messages and from state",
			About:  "Ten functions that run at once come to within 5 % of their average by sending each other messages, and a leader gathers their values from state (section 6.1.3). In the paper, too, gathering on Cloudburst was the faster by far, about 20 times: gossip is what works without anything to gather from.",
			Charts: []report.Chart{{Title: "an average of ten", Label: "case", Value: "p50_ms", Unit: "p50, ms"}},
			Run: func(ctx context.Context, out io.Writer) error {
				return paper.Gossip(ctx, paper.GossipConfig{Common: common, Seed: 1, Repeats: pick(short, 40, 0)}, out)
			},
		},
		{
			Name: "prediction", Title: "A prediction pipeline",
			About:  "Resize, model and combine as plain functions, as a DAG on one worker, and over three (section 6.3.1). The model is a small convolutional network with random weights.",
			Charts: []report.Chart{{Title: "an image classified", Label: "case", Value: "p50_ms", Unit: "p50, ms"}},
			Run: func(ctx context.Context, out io.Writer) error {
				return paper.Prediction(ctx, paper.PredictionConfig{Common: common, Seed: 1, Images: pick(short, 20, 0)}, out)
			},
		},
		{
			Name: "retwis", Title: "Retwis with more and more workers",
			About: "The Twitter clone, four of five calls reads (section 6.3.2). Server, callers and workers share the cores, which bound how it scales. Ahead are posts that a timeline listed and that couldn't be read yet; orphans, replies that were shown without what they answer.",
			Charts: []report.Chart{
				{Title: "posts and reads, by level and workers", Label: "case", Value: "per_s", Unit: "a second"},
				{Title: "reads, by level and workers", Label: "case", Value: "read_p50_ms", Unit: "p50, ms"},
			},
			Run: func(ctx context.Context, out io.Writer) error {
				cfg := paper.RetwisConfig{Common: common, Progress: c.stderr, Posts: 2000}
				if short {
					cfg.Workers, cfg.Users, cfg.Follows, cfg.Posts = []int{1, 2}, 200, 10, 300
				}
				return paper.Retwis(ctx, cfg, out)
			},
		},
	}
}

// codeSections are of functions that are deployed.
func (c *console) codeSections(short bool, store string) []report.Section {
	return []report.Section{
		{
			Name: "runtimes", Title: "One function on each runtime",
			About:  "A function that squares a number, as Go of the worker's own program, as WebAssembly and as Python, and a program that is executed for each call.",
			Charts: []report.Chart{{Title: "a warm call", Label: "name", Value: "p50_ms", Unit: "p50, ms"}},
			Run: func(ctx context.Context, out io.Writer) error {
				return deployed.Runtimes(ctx, deployed.RuntimesConfig{JSON: true, Store: store, Calls: pick(short, 200, 0), Rounds: pick(short, 1, 0), Colds: pick(short, 3, 0)}, out)
			},
		},
		{
			Name: "deploy", Title: "Deploying under load",
			About: "Version after version is deployed while calls go on: none may fail, and none may be answered by a version that was replaced before it began.",
			Run: func(ctx context.Context, out io.Writer) error {
				return deployed.Rollout(ctx, deployed.RolloutConfig{JSON: true, Store: store, Deploys: pick(short, 5, 0), Rate: pick(short, 300, 0)}, out)
			},
		},
		{
			Name: "programs", Title: "Four programs as WebAssembly and as C",
			About:  "Programs of the benchmarks game in the runtime of deployed functions, metered, beside what the C compiler makes of them.",
			Charts: []report.Chart{{Title: "WebAssembly's time to C's", Label: "name", Value: "ratio", Unit: "times"}},
			Run: func(ctx context.Context, out io.Writer) error {
				return deployed.Programs(ctx, deployed.ProgramsConfig{JSON: true, Rounds: pick(short, 1, 0)}, out)
			},
		},
	}
}

// platformSections are of what keeps it going.
func (c *console) platformSections(short bool, store string) []report.Section {
	return []report.Section{
		{
			Name: "autoscale", Title: "A step of load",
			About: "The load steps from one busy slot's worth of calls to sixteen, and back: how long until the slots are there, until nothing waits, and until they are gone again. No call may be lost. The paper's took 20 s to the first level, and 2.5 min for each further step of machines.",
			Charts: []report.Chart{
				{Title: "a step of load", Label: "case", Over: "timeline", Value: "s", Unit: "slots, calls", Lines: []string{"slots", "waiting"}},
			},
			Run: func(ctx context.Context, out io.Writer) error {
				cfg := bench.AutoscaleConfig{JSON: true, Store: store}
				if short {
					cfg.Cases, cfg.Stable, cfg.Hold = []string{bench.ScaleSlots}, 3*time.Second, 5*time.Second
				}
				return bench.Autoscale(ctx, cfg, out)
			},
		},
		{
			Name: "fleet", Title: "A day of bursts, simulated",
			About:  "A day of bursty arrivals against the autoscaler and against fleets of a fixed size: how long until a burst had its workers, how long calls waited, and what it cost beside an oracle.",
			Charts: []report.Chart{{Title: "what a day costs", Label: "fleet", Value: "worker_seconds", Unit: "worker-seconds"}},
			Run: func(_ context.Context, out io.Writer) error {
				return bench.Fleet(bench.FleetConfig{JSON: true, Simulation: fleetsim.Simulation{Seed: 1, Policy: autoscaler.Policy{Min: 1, Slots: 4}}}, out)
			},
		},
		{
			Name: "locality", Title: "Functions on data that is cached where they run",
			About:  "The paper's experiment (section 6.1.2): a function sums ten arrays that its arguments refer to, from its worker's cache and from storage. At 8 MB the paper saw the cache 10 times as fast as cold storage, 25 times as fast as Redis and 79 times as S3. Then calls with references by Zipf's law, with placement and without.",
			Charts: []report.Chart{{Title: "sum of ten arrays, 8 MB in all", Label: "case", Value: "p50_ms", Unit: "p50, ms", Where: map[string]string{"bytes": "8000000"}}},
			Run: func(ctx context.Context, out io.Writer) error {
				cfg := bench.LocalityConfig{JSON: true, Store: store}
				if short {
					cfg.Elements, cfg.For, cfg.SkipZipf = []int{1000, 100_000}, time.Second, true
				}
				return bench.Locality(ctx, cfg, out)
			},
		},
		{
			Name: "placement", Title: "Where calls with references run, simulated",
			About: "A pool of a thousand workers, of which one dies and another comes each second, called with references by Zipf's law.",
			Run: func(_ context.Context, out io.Writer) error {
				cfg := bench.PlacementConfig{JSON: true, Simulation: poolsim.Simulation{Seed: 1}}
				if short {
					cfg.Workers, cfg.Keys, cfg.Warm, cfg.Calls = 100, 10_000, 100_000, 30_000
				}
				return bench.Placement(cfg, out)
			},
		},
		{
			Name: "growth", Title: "How cost grows",
			About: "Calls, memory and what is around them with few and with many functions, waiting calls and keys, each size on a server of its own; the ratio is to the first size.",
			Run: func(ctx context.Context, out io.Writer) error {
				cfg := bench.GrowthConfig{JSON: true, Store: store}
				if short {
					cfg.Functions, cfg.Backlog, cfg.Keys, cfg.Calls = []int{10, 300}, []int{0, 20_000}, []int{100, 10_000}, 300
				}
				return bench.Growth(ctx, cfg, out)
			},
		},
		{
			Name: "faults", Title: "A cluster that is broken under load",
			About:  "Three servers and their workers, and one of them broken after the other: what a fault costs a caller. Nothing that was acknowledged may be lost.",
			Charts: []report.Chart{{Title: "the longest that a call took", Label: "case", Value: "call_p50_ms", Unit: "p50, ms"}},
			Run: func(ctx context.Context, out io.Writer) error {
				cfg := faults.Config{Seed: 1, Store: store}
				if short {
					cfg.Kinds, cfg.Calls, cfg.DAGs, cfg.Writes, cfg.For = faults.Kinds()[:3], 300, 30, 300, time.Second
				}
				r, err := faults.Run(ctx, cfg)
				if err != nil {
					return err
				}
				return errors.Join(r.Write(out, true), r.Err())
			},
		},
	}
}
