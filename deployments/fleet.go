package deployments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// FleetConfig describes a Fleet.
type FleetConfig struct {
	// Command returns the program and the arguments of a worker of a pool. The
	// program must drain and end on SIGTERM, and when its standard input ends:
	// then whoever started it is gone.
	Command func(pool string) []string
	// Pools are how many workers each pool begins with. No others can be scaled.
	Pools map[string]int
	// Grace is how long a worker may drain before it is killed. Default 90 s:
	// more than the time-out of a call, unless a function has a longer one.
	Grace time.Duration
	// Output is where the workers' standard error goes. Nil drops it.
	Output io.Writer
	// Log is told of workers that start and end. Nil is silent.
	Log *logrus.Entry
}

// A Fleet is an actuator: it runs workers as processes of this machine, starts one
// anew that died, and ends all when it ends. Scale is safe for concurrent use.
type Fleet struct {
	cfg FleetConfig

	mu      sync.Mutex // guards want
	want    map[string]int
	changed chan struct{} // want has
}

// NewFleet returns a fleet that runs nothing yet.
func NewFleet(cfg FleetConfig) *Fleet {
	if cfg.Grace <= 0 {
		cfg.Grace = 90 * time.Second
	}
	return &Fleet{cfg: cfg, want: maps.Clone(cfg.Pools), changed: make(chan struct{}, 1)}
}

// Scale has the fleet run so many workers of a pool. It does not wait for them. Those
// that go finish what they have.
func (f *Fleet) Scale(_ context.Context, pool string, n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.want[pool]; !known {
		return &wire.Error{Op: "scale", Name: pool, Kind: wire.KindUnknown, Msg: "the fleet does not serve the pool"}
	}
	f.want[pool] = max(n, 0)
	select {
	case f.changed <- struct{}{}:
	default:
	}
	return nil
}

// Current returns how many workers of a pool it keeps running.
func (f *Fleet) Current(_ context.Context, pool string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.want[pool], nil
}

// Run keeps the workers running until ctx ends, then has all of them drain, and
// returns when the last has ended.
func (f *Fleet) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	members := make(map[string][]chan struct{}) // each is closed to end a worker
	defer func() {
		for _, list := range members {
			for _, stop := range list {
				close(stop)
			}
		}
	}()
	for {
		f.mu.Lock()
		want := maps.Clone(f.want)
		f.mu.Unlock()
		for _, pool := range slices.Sorted(maps.Keys(want)) {
			list := members[pool]
			for len(list) < want[pool] {
				stop := make(chan struct{})
				all.Go(func() { f.keep(pool, stop) })
				list = append(list, stop)
			}
			for len(list) > want[pool] { // the newest first: its cache is the coldest
				close(list[len(list)-1])
				list = list[:len(list)-1]
			}
			members[pool] = list
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
		}
	}
}

// A worker that dies is started anew at once, then after fleetBackoff, which
// doubles up to fleetBackoffMost; one that ran for longer than that begins again.
const (
	fleetBackoff     = 100 * time.Millisecond
	fleetBackoffMost = 10 * time.Second
)

// keep runs one worker after another until stop is closed.
func (f *Fleet) keep(pool string, stop <-chan struct{}) {
	wait := time.Duration(0)
	for {
		began := time.Now()
		err := f.run(pool, stop)
		select {
		case <-stop:
			return
		default:
		}
		if time.Since(began) > fleetBackoffMost {
			wait = 0
		}
		if f.cfg.Log != nil {
			f.cfg.Log.WithError(err).WithFields(logrus.Fields{"pool": pool, "again": wait}).Warn("a process ended by itself")
		}
		select {
		case <-stop:
			return
		case <-time.After(wait):
		}
		wait = min(max(2*wait, fleetBackoff), fleetBackoffMost)
	}
}

// run runs one process until it ends, which it is asked to when stop is closed.
func (f *Fleet) run(pool string, stop <-chan struct{}) error {
	argv := f.cfg.Command(pool)
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec // it is this program
	cmd.Stderr = f.cfg.Output
	cmd.SysProcAttr = apart()
	// The system closes our end when we are killed: the worker reads that.
	life, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	log := f.cfg.Log
	if log != nil {
		log = log.WithFields(logrus.Fields{"pool": pool, "pid": cmd.Process.Pid})
		log.Info("started a process")
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // it ends with the process, which ends below
	select {
	case err := <-ended:
		if err == nil {
			err = errors.New("it returned")
		}
		return err
	case <-stop:
	}
	if cmd.Process.Signal(syscall.SIGTERM) != nil {
		_ = life.Close() // where there is no such signal, this is one
	}
	late := time.NewTimer(f.cfg.Grace)
	defer late.Stop()
	select {
	case err = <-ended:
	case <-late.C:
		_ = cmd.Process.Kill() // it has ended by itself, or does now
		err = errors.Join(errors.New("killed: it drained for too long"), <-ended)
	}
	switch {
	case log == nil:
	case err != nil:
		log.WithError(err).Warn("a process that was told to end did so badly")
	default:
		log.Info("a process has drained and ended")
	}
	return err
}
