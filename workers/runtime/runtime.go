// Package runtime is the seam between a worker and the code it runs: one small
// interface with an implementation for each way to run code.
//
// A Runtime loads a Program, which is code and how to run it, and makes a
// Function of it: code that is ready to be called. A Call is one execution of
// it, with its arguments, the State it may read and write, the Functions it may
// call and the Log that takes what it prints. State is buffered by the caller of
// Invoke and only stored when the execution succeeds: a function that was given
// up on may go on writing to its State, and nobody will ever see it.
//
// Whatever the code does, it hurts its own call and nothing else: a crash, an
// endless loop, a bomb of memory and garbage on its output are errors of Invoke.
// Go code of the worker's own binary (package native) is the exception: it
// shares the worker's memory, and can't be stopped from outside.
package runtime

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Runtime makes functions of programs.
type Runtime interface {
	// Load compiles or imports a program. What is wrong with it is an error of
	// wire.KindInvalid that names the problem.
	Load(ctx context.Context, p Program) (Loaded, error)
}

// A Program is code, on this machine's disk or in memory, and how it is to be run.
type Program struct {
	Function string // the name it is called by
	Version  int
	Path     string // a WebAssembly module; a directory of Python files
	Code     []byte // the module, instead of Path; Load only reads it
	// Files are the Python files, instead of Path. Only Load reads them. They may still
	// have to come from elsewhere when they are first opened.
	Files fs.FS
	Entry string // what of it is called; empty is the runtime's default
	// Args are what it finds as its command line, after its name.
	Args []string
	// Memory bounds each instance, in bytes; 0 is the runtime's default.
	Memory int64
	// Concurrency is how many instances there are at most; 0 is the runtime's
	// default. Calls beyond it wait.
	Concurrency int
}

// Module returns a program that is one file.
func (p Program) Module() ([]byte, error) {
	if p.Code != nil {
		return p.Code, nil
	}
	return os.ReadFile(p.Path)
}

// A Loaded is a function with something to let go of.
type Loaded interface {
	Function
	// Close ends what the function keeps. Calls in hand are ended with an error:
	// who wants them to finish waits for them first.
	Close() error
}

// A Function runs calls. Invoke may be called concurrently. It returns when
// ctx ends, if it can: a call that doesn't is left behind, and what it returns
// is dropped. A function that fails returns an error, one that panics a
// *wire.Error of KindPanic with the stack.
type Function interface {
	Invoke(ctx context.Context, call *Call) (wire.Value, error)
}

// A Lister is a Function that takes its arguments one by one, as Call.Each: values of
// any type, which are shared with the cache instead of copied into one document.
type Lister interface {
	Function
	// Lists says nothing: a Function that has it is a Lister.
	Lists()
}

// A Call is one execution of a function.
type Call struct {
	Run       wire.RunID
	Function  string
	Node      string // of a DAG; else empty
	Attempt   int    // 1 is the first
	Args      wire.Value
	Each      []wire.Value // instead of Args, for a Lister
	Namespace string       // where the function keeps its state unless it says otherwise
	State     State
	Functions Functions
	Mail      Mail
	Log       io.Writer // takes what the function prints; nil drops it
}

// Functions are what a function can call. Such a call is a run of its own.
type Functions interface {
	// Start calls a function or DAG and returns once the call is stored. run names the
	// run, so that a call that is made again is the same run; empty is a new one.
	Start(ctx context.Context, name string, args wire.Value, run wire.RunID) (wire.RunID, error)
	// Await returns what a run returned, once it has.
	Await(ctx context.Context, run wire.RunID) (wire.Value, error)
}

// Mail is how functions that run at the same time talk to each other: paper
// section 3, Table 1.
type Mail interface {
	// ID names this execution: the address that others send to. It stays the same
	// when the call is retried.
	ID() string
	// Send returns once the message is stored for the execution with that id, which
	// may begin later. Messages of one sender to one receiver keep their order, and
	// each comes once, also if the sender is retried.
	Send(ctx context.Context, to string, msg wire.Value) error
	// Receive returns the next message, nil if none has come after wait. An execution
	// that is retried receives everything again, from its first message.
	Receive(ctx context.Context, wait time.Duration) (*wire.Message, error)
}

// State is what a function can read and write while it runs: paper section 3,
// Table 1. A namespace is a bucket.
type State interface {
	Registers
	Counters
	Sets
	Lattices
	Marks
}

// Registers are values that one writes whole.
type Registers interface {
	Get(ctx context.Context, ns, key string) (v wire.Value, found bool, err error)
	Put(ctx context.Context, ns, key string, v wire.Value) error
	Delete(ctx context.Context, ns, key string) error
	// Versions returns all values that no other has replaced, the one that Get
	// returns first.
	Versions(ctx context.Context, ns, key string) ([]wire.Value, error)
}

// Lattices are keys of any kind.
type Lattices interface {
	// Merge joins delta, which is the state's from then on, into the key.
	Merge(ctx context.Context, ns, key string, delta kvlattice.Lattice) error
	// Read returns a copy of what the key holds; nil if nothing was ever written.
	Read(ctx context.Context, ns, key string) (kvlattice.Lattice, error)
	// GetAll returns what is seen of several keys at one moment.
	GetAll(ctx context.Context, ns string, keys ...string) (values []wire.Value, found []bool, err error)
}

// Counters count each call once, however often it is retried. Fields are where a
// counter stands in a key that holds a map: the field, the field of the map in
// that field, and so on; none if the key is the counter.
type Counters interface {
	// AddCounter counts up or down.
	AddCounter(ctx context.Context, ns, key string, delta int64, fields ...string) error
	// AddGrow counts up; a delta below 0 is an error of wire.KindBadArgument.
	AddGrow(ctx context.Context, ns, key string, delta int64, fields ...string) error
	// Counter returns the total of a counter of either kind; 0 if there is none.
	Counter(ctx context.Context, ns, key string) (int64, error)
}

// Sets only grow.
type Sets interface {
	AddSet(ctx context.Context, ns, key string, elements ...json.RawMessage) error
	Set(ctx context.Context, ns, key string) ([]json.RawMessage, error)
}

// Marks tell writes apart that a lattice keeps one by one.
type Marks interface {
	// Tag names the next adding to an ORSet. A run that is repeated makes the same
	// tags again. Fresh says that nobody can have seen this one, so that it may take
	// the place of others (ORSet.Renewal).
	Tag() (tag kvlattice.Tag, fresh bool)
	// Retag has the run, if it is repeated, make new tags from now on: it has removed
	// an element, maybe under a tag that it would make next.
	Retag()
	// Stamp returns a timestamp for a write of the key, after all that the run was shown,
	// and the writer who uses it. A run that is repeated gets the same ones again.
	Stamp(ctx context.Context, ns, key string) (ts kvlattice.Timestamp, writer string, err error)
}
