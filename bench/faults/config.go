package faults

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Config says how much is done, and what is broken meanwhile. The zero value is a
// run of some minutes.
type Config struct {
	// Faults is how many there are in all. Default 12: one of each kind.
	Faults int
	// Kinds are those that take turns. Default: all, see Kinds.
	Kinds []string
	// Calls, DAGs and Writes are how many of each are made at least; the load goes on
	// until the last fault has passed. Default 2,000, 200 and 2,000.
	Calls, DAGs, Writes int
	// Callers is how many do each of these at once. Default 16.
	Callers int
	// Workers is how many processes run the functions. Default 3.
	Workers int
	// Levels has the consistency experiment run beside the load, with this many
	// requests of each client at each level. 0: it doesn't.
	Levels int
	// For is how long a fault lasts that isn't over at once. Default 3 s.
	For time.Duration
	// Seed draws the victims.
	Seed uint64
	// Store is an existing directory under which the servers keep their data, which
	// is removed in the end. Default: the system's temporary directory.
	Store string
	// Part returns the command of a process that calls Serve with the role and
	// argument and standard output, until its standard input closes. Default: this
	// program with "role".
	Part func(role, arg string) *exec.Cmd
	// Progress, if set, is told of each fault.
	Progress io.Writer
}

// Kinds lists the kinds of faults.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// topology has all streams in three copies, and calls handed out again after a
// second. Its sizes are small so that a disk can be filled.
var topology = broker.Topology{
	Replicas: 3, AckWait: time.Second,
	CallsBytes: 32 << 20, ResultsBytes: 64 << 20, LogsBytes: 1 << 20, MessagesBytes: 4 << 20,
}

// maxStore is what a server may keep: room for what the streams reserve, and for a
// quarter of a gigabyte of state.
const maxStore = 512 << 20

func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(name, format string, args ...any) {
		errs = append(errs, &wire.Error{Op: "bench faults", Kind: wire.KindBadArgument, Name: name, Msg: fmt.Sprintf(format, args...)})
	}
	if len(c.Kinds) == 0 {
		c.Kinds = Kinds()
	}
	for _, k := range c.Kinds {
		if !slices.Contains(Kinds(), k) {
			bad(k, "no such kind of fault; there are %v", Kinds())
		}
	}
	for _, n := range []struct {
		name  string
		value *int
		def   int
	}{
		{"faults", &c.Faults, len(c.Kinds)},
		{"calls", &c.Calls, 2000},
		{"dags", &c.DAGs, 200},
		{"writes", &c.Writes, 2000},
		{"callers", &c.Callers, 16},
		{"workers", &c.Workers, 3},
	} {
		if *n.value < 0 {
			bad(n.name, "less than 0")
		}
		if *n.value == 0 {
			*n.value = n.def
		}
	}
	if c.Workers < 2 {
		bad("workers", "%d: one is broken while another works, so 2 at least", c.Workers)
	}
	if c.For <= 0 {
		c.For = 3 * time.Second
	}
	if c.Part == nil {
		exe, err := os.Executable()
		if err != nil {
			errs = append(errs, fmt.Errorf("find this program: %w", err))
		}
		c.Part = func(role, arg string) *exec.Cmd { return exec.Command(exe, "role", role, arg) }
	}
	return c, errors.Join(errs...)
}
