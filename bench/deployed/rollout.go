package deployed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
)

// RolloutConfig describes a rollout. The zero value works.
type RolloutConfig struct {
	Deploys  int      // of each runtime. Default 50
	Rate     int      // calls a second, whatever the answers take. Default 1000
	Workers  int      // that share the calls. Default 2
	Runtimes []string // Default wasm and python
	JSON     bool     // an object a runtime, instead of a table
	Store    string   // existing directory to keep the data under meanwhile
}

func (c RolloutConfig) withDefaults() RolloutConfig {
	if c.Deploys <= 0 {
		c.Deploys = 50
	}
	if c.Rate <= 0 {
		c.Rate = 1000
	}
	if c.Workers <= 0 {
		c.Workers = 2
	}
	if len(c.Runtimes) == 0 {
		c.Runtimes = []string{cloudburst.Wasm, cloudburst.Python}
	}
	return c
}

// A Rolled is what came of the rollout of one runtime. Durations are milliseconds.
type Rolled struct {
	Runtime string `json:"runtime"`
	Deploys int    `json:"deploys"`
	Calls   int    `json:"calls"`
	Failed  int    `json:"failed"` // ended with an error, or without an answer
	Wrong   int    `json:"wrong"`  // answered by a version that it must not be
	// Deploy is how long a deployment takes to return, FirstCall how long after that
	// the first call that began then takes to be answered.
	DeployP50    float64 `json:"deploy_p50_ms"`
	DeployMax    float64 `json:"deploy_max_ms"`
	FirstCallP50 float64 `json:"first_call_p50_ms"`
	FirstCallMax float64 `json:"first_call_max_ms"`
	CallP50      float64 `json:"call_p50_ms"`
	CallP99      float64 `json:"call_p99_ms"`
}

// Rollout runs the benchmark and writes what came of it. It fails if a call failed
// or was answered by a wrong version.
func Rollout(ctx context.Context, cfg RolloutConfig, out io.Writer) error {
	cfg = cfg.withDefaults()
	return on(ctx, cfg.Store, func(s *site) (err error) {
		stop, err := s.serve(ctx, "", cfg.Workers)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		var all []Rolled
		for _, runtime := range cfg.Runtimes {
			r, err := (&rollout{cfg: cfg, client: s.client, runtime: runtime, name: "version-" + runtime}).run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", runtime, err)
			}
			all = append(all, r)
		}
		return errors.Join(writeRolled(out, all, cfg.JSON), checkRolled(all))
	})
}

func checkRolled(all []Rolled) error {
	var bad []error
	for _, r := range all {
		if r.Failed > 0 || r.Wrong > 0 {
			bad = append(bad, fmt.Errorf("%s: of %d calls %d failed, and %d were answered by a wrong version", r.Runtime, r.Calls, r.Failed, r.Wrong))
		}
	}
	return errors.Join(bad...)
}

// A rollout is one runtime's turn.
type rollout struct {
	cfg           RolloutConfig
	client        *cloudburst.Client
	runtime, name string

	returned atomic.Int64 // the version whose deployment has returned last
	begun    atomic.Int64 // the version whose deployment has begun last

	mu     sync.Mutex // guards what follows
	took   []time.Duration
	failed []error
	wrong  int
}

func (r *rollout) run(ctx context.Context) (Rolled, error) {
	if _, _, err := r.deploy(ctx, 1); err != nil {
		return Rolled{}, err
	}
	calling, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.callOn(calling)
	}()
	var deploys, firsts []time.Duration
	for v := 2; v <= r.cfg.Deploys+1; v++ {
		deployed, first, err := r.deploy(ctx, v)
		if err != nil {
			stop()
			<-ended
			return Rolled{}, err
		}
		deploys, firsts = append(deploys, deployed), append(firsts, first)
	}
	stop()
	<-ended
	slices.Sort(r.took)
	slices.Sort(deploys)
	slices.Sort(firsts)
	return Rolled{
		Runtime: r.runtime, Deploys: len(deploys), Calls: len(r.took) + len(r.failed), Failed: len(r.failed), Wrong: r.wrong,
		DeployP50: at(deploys, 50), DeployMax: at(deploys, 100), FirstCallP50: at(firsts, 50), FirstCallMax: at(firsts, 100),
		CallP50: at(r.took, 50), CallP99: at(r.took, 99),
	}, errors.Join(r.failed[:min(len(r.failed), 3)]...)
}

// deploy deploys a version and calls it at once.
func (r *rollout) deploy(ctx context.Context, version int) (deployed, first time.Duration, err error) {
	image := constant(fmt.Sprint(version), nil)
	if r.runtime == cloudburst.Python {
		image = fmt.Appendf(nil, "def handler(cloudburst):\n    return %d\n", version)
	}
	r.begun.Store(int64(version))
	began := time.Now()
	f, err := r.client.Deploy(ctx, cloudburst.Deployment{Name: r.name, Image: image, Attempts: 1})
	if err != nil {
		return 0, 0, err
	}
	deployed = time.Since(began)
	if f.Version != version {
		return 0, 0, fmt.Errorf("it became version %d, not %d", f.Version, version)
	}
	r.returned.Store(int64(version))
	got, err := cloudburst.Call[int](ctx, r.client, r.name)
	if err == nil && got != version {
		err = fmt.Errorf("version %d answered the first call after version %d was deployed", got, version)
	}
	return deployed, time.Since(began) - deployed, err
}

// callOn makes calls at the rate until ctx ends, and waits for their answers.
func (r *rollout) callOn(ctx context.Context) {
	tick := time.NewTicker(time.Second / time.Duration(r.cfg.Rate))
	defer tick.Stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	for began, n := time.Now(), 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A ticker drops what nobody takes in time; the rate counts from the beginning.
		for due := int(time.Since(began).Seconds() * float64(r.cfg.Rate)); n < due; n++ {
			calls.Go(func() { r.call(context.WithoutCancel(ctx)) })
		}
	}
}

func (r *rollout) call(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	least := r.returned.Load()
	began := time.Now()
	got, err := cloudburst.Call[int64](ctx, r.client, r.name)
	took := time.Since(began)
	most := r.begun.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed = append(r.failed, err)
		return
	}
	r.took = append(r.took, took)
	if got < least || got > most {
		r.wrong++
	}
}

// at returns a percentile of sorted durations, in milliseconds.
func at(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(len(sorted)*percent/100, len(sorted)-1)
	return float64(sorted[i]) / float64(time.Millisecond)
}

func writeRolled(out io.Writer, all []Rolled, asJSON bool) error {
	header := table.Row{"runtime", "deploys", "calls", "failed", "wrong", "deploy p50 ms", "max", "first call p50 ms", "max", "call p50 ms", "p99"}
	return write(out, all, asJSON, header, func(r Rolled) table.Row {
		return table.Row{
			r.Runtime, r.Deploys, r.Calls, r.Failed, r.Wrong, digits(r.DeployP50), digits(r.DeployMax), digits(r.FirstCallP50), digits(r.FirstCallMax), digits(r.CallP50), digits(r.CallP99),
		}
	})
}

func digits(ms float64) string { return fmt.Sprintf("%.2f", ms) }
