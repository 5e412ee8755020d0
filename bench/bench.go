package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// The transports.
const (
	InProcess = "inprocess" // one process, no socket
	TCP       = "tcp"       // one process, over loopback
	Processes = "processes" // server, worker and caller apart, over loopback
)

// Transports lists all transports, in the order in which they are measured.
func Transports() []string { return []string{InProcess, TCP, Processes} }

// Config says what is measured, and how long. The zero value measures
// everything, in some minutes.
type Config struct {
	// Transports to measure. Default: all.
	Transports []string
	// Serial is how many operations of each contender are timed one by one in a
	// round. Default 2000.
	Serial int
	// Rounds is how often the contenders take turns. Default 5.
	Rounds int
	// Count is how many operations of each contender measure its throughput in
	// a round. Default 20000.
	Count int
	// InFlight is how many operations are under way at once while throughput is
	// measured. Default 64.
	InFlight int
	// JSON has one JSON object written for each row, instead of tables.
	JSON bool
	// Store is an existing directory under which the server keeps its data,
	// which is removed in the end. Default: the system's temporary directory.
	Store string
	// Exe is the program that plays the parts of transport processes: it passes
	// the arguments after "role" to Role. Default: this one.
	Exe string
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Transports) == 0 {
		c.Transports = Transports()
	}
	var errs []error
	bad := func(name, msg string) {
		errs = append(errs, &wire.Error{Op: "bench", Kind: wire.KindBadArgument, Name: name, Msg: msg})
	}
	for _, t := range c.Transports {
		if !slices.Contains(Transports(), t) {
			bad(t, fmt.Sprintf("no such transport; there are %v", Transports()))
		}
	}
	for _, n := range []struct {
		name  string
		value *int
		def   int
	}{{"serial", &c.Serial, 2000}, {"rounds", &c.Rounds, 5}, {"count", &c.Count, 20000}, {"in flight", &c.InFlight, 64}} {
		if *n.value < 0 {
			bad(n.name, "less than 0")
		}
		if *n.value == 0 {
			*n.value = n.def
		}
	}
	if c.Exe == "" && slices.Contains(c.Transports, Processes) {
		exe, err := os.Executable()
		if err != nil {
			errs = append(errs, fmt.Errorf("find this program: %w", err))
		}
		c.Exe = exe
	}
	return c, errors.Join(errs...)
}

// Call measures calls on every transport, and writes the rows of each to out as
// soon as it is through: a table, or JSON.
func Call(ctx context.Context, cfg Config, out io.Writer) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if !cfg.JSON {
		if err := writeMachine(out, os.Args); err != nil {
			return err
		}
	}
	for _, transport := range cfg.Transports {
		rows, err := measure(ctx, cfg, transport)
		if err != nil {
			return fmt.Errorf("measure %s: %w", transport, err)
		}
		if err := write(out, rows, cfg.JSON); err != nil {
			return err
		}
	}
	return nil
}

func measure(ctx context.Context, cfg Config, transport string) (rows []Row, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s, err := openSite(ctx, fail, cfg, transport)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	contenders, err := s.contenders(ctx, cfg.InFlight)
	if err != nil {
		return nil, err
	}
	if err := race(ctx, cfg, contenders); err != nil {
		return nil, err
	}
	return rowsOf(transport, contenders), nil
}
