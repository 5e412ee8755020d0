package anomalies

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Role is the part that a worker process plays: `cloudburst-bench role` with it
// and the argument that Config.Worker was given has to call Serve.
const Role = "consistency-worker"

// Levels returns the levels in the order in which they are reported, the weakest
// first.
func Levels() []string {
	return []string{cloudburst.LWW, cloudburst.Repeatable, cloudburst.CausalKey, cloudburst.Causal, cloudburst.SessionCausal}
}

// Config says how the experiment is run. The zero value is the paper's, but for
// three workers in place of fifteen.
type Config struct {
	// Levels to run. Default: all.
	Levels []string
	// Requests is how many each client makes at each level. Default 500.
	Requests int
	// Clients is how many call at once. Default 8.
	Clients int
	// Workers is how many processes run functions. Default 3.
	Workers int
	// Keys is how many keys there are. Default 1,000,000. Fewer are hotter: more
	// executions meet.
	Keys int
	// Zipf is the exponent by which keys are drawn: the n-th in proportion to
	// 1/n^Zipf. Default 1.
	Zipf float64
	// DAGs is how many there are. Default 250.
	DAGs int
	// Writes is the share of executions that write a key though they are not of
	// the sink, which always does. Default 0.1; less than 0 is none.
	Writes float64
	// Rounds is how often the levels take turns. Default 5.
	Rounds int
	// Seed makes the DAGs and draws the keys.
	Seed uint64
	// KillEvery is how often a worker is killed (kill -9) and started again while
	// requests are made. 0 is never.
	KillEvery time.Duration
	// Lag is by how much every second worker hears later of what others write. 0
	// is as fast as it can, which hides most of what the weaker levels let through.
	Lag time.Duration
	// History is an existing directory that the histories are left in. Default:
	// they are removed.
	History string
	// URL is of a platform that runs already, made with Topology. Default: the
	// experiment brings its own server.
	URL string
	// Topology is the platform's. Default: calls of killed workers are handed out
	// again after a second.
	Topology broker.Topology
	// Store is an existing directory under which the server keeps its data, which
	// is removed in the end. Default: the system's temporary directory.
	Store string
	// Worker returns the command of a process that calls Serve with arg and
	// standard output, until its standard input closes. Default: this program with
	// "role".
	Worker func(arg string) *exec.Cmd
	// Started, if set, is called once all is up and requests begin.
	Started func()
	// Progress, if set, is told now and then how far it is, if that takes long.
	Progress io.Writer
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(name, format string, args ...any) {
		errs = append(errs, &wire.Error{Op: "bench consistency", Kind: wire.KindBadArgument, Name: name, Msg: fmt.Sprintf(format, args...)})
	}
	if len(c.Levels) == 0 {
		c.Levels = Levels()
	}
	for _, l := range c.Levels {
		if !slices.Contains(Levels(), l) {
			bad(l, "no such level; there are %v", Levels())
		}
	}
	c.Levels = slices.DeleteFunc(Levels(), func(l string) bool { return !slices.Contains(c.Levels, l) })
	for _, n := range []struct {
		name  string
		value *int
		def   int
	}{
		{"requests", &c.Requests, 500},
		{"clients", &c.Clients, 8},
		{"workers", &c.Workers, 3},
		{"keys", &c.Keys, 1_000_000},
		{"dags", &c.DAGs, 250},
		{"rounds", &c.Rounds, 5},
	} {
		if *n.value < 0 {
			bad(n.name, "less than 0")
		}
		if *n.value == 0 {
			*n.value = n.def
		}
	}
	if c.Zipf < 0 || math.IsNaN(c.Zipf) || math.IsInf(c.Zipf, 0) {
		bad("zipf", "not a positive number")
	}
	if c.Topology == (broker.Topology{}) {
		c.Topology = broker.Topology{AckWait: time.Second}
	}
	if c.Zipf == 0 {
		c.Zipf = 1
	}
	if c.Writes == 0 {
		c.Writes = 0.1
	}
	if c.KillEvery < 0 {
		bad("kill every", "less than 0")
	}
	if c.Lag < 0 {
		bad("lag", "less than 0")
	}
	if c.Worker == nil {
		exe, err := os.Executable()
		if err != nil {
			errs = append(errs, fmt.Errorf("find this program: %w", err))
		}
		c.Worker = func(arg string) *exec.Cmd { return exec.Command(exe, "role", Role, arg) }
	}
	return c, errors.Join(errs...)
}
