// Package python runs functions that are Python programs.
//
// A program is a directory of Python files, its function one that takes the
// platform, as cloudburst.py describes it, and the call's arguments:
//
//	def handler(cloudburst, a, b=1):
//		return a + b
//
// A function runs in instances: processes of their own, started when calls ask for
// them and kept for the next ones, each with one call at a time. What a program
// keeps in its globals stays for later calls of the same instance.
//
//	starting ── imported ──► idle ⇄ in a call
//	   │ fails                 │ idle for long   │ time is up, crash, MemoryError
//	   └───────────────────────┴──────► ended ◄──┘
//
// An instance and the worker are connected by a socket, in frames: a little-endian
// uint32 of length, then as many bytes, the first of which says what it is. Fields
// are those of package guest.
//
//	worker    i                           import the program, which is there now; R or E
//	worker    x  type body                call the function; the answer is R or E
//	instance  R  type body                what it returned; or it is ready for calls
//	instance  E  kind message stack last  how it failed; last isn't empty if it can't go on
//	instance  …  a request of package guest, which the worker answers by a response
//
// Both look for a frame again and again for a moment before they sleep, if the last one
// came as soon: waking up takes longer than a short call. A process starts while its
// program is copied, or pulled, and imports it when it is told to.
//
// What an instance prints comes by a pipe, line by line, and is the log of the call
// in hand: all of it has been written when Invoke returns. What threads print that
// a call has left behind is dropped while there is no call, and else is in the log
// of a later one; so is what C code prints and doesn't flush. A line of more than
// 64 KiB is several.
//
// # Protection
//
// Whatever a function does, it fails its own call only: a process that crashes, that
// writes garbage to its connection or whose time is up is killed, with its process
// group, and another one takes its place. It ends with the worker, too, even if that
// is killed: see tether in shim.py.
//
// An instance has no environment but PATH, HOME, TMPDIR, a locale and one thread for
// each of numpy's libraries. It runs in a directory of its own, which is removed when
// it ends, and which it sees as /tmp and /var/tmp if the worker is root on Linux. Its memory, its open files and the size of each file it writes are bounded.
//
// A worker that runs as root on Linux runs each instance as a user that nobody else
// is, so that it can neither read what only the worker may nor signal others, and all
// that it has started is found and ended. Elsewhere an instance runs as the worker's
// own user. Then Landlock, where Linux has it (5.13 and later), lets it read no files
// but the system's, Python's and its own, write none but its own, and (from 6.12 on)
// signal nobody; and what leaves its process group outlives it. Config.Warn is told
// if the machine has less than that.
//
// There is no protection from what a function does over the network, and none of the
// processor's time and the disk's room beyond a call's time-out and those bounds.
package python

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	stdruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Config says how Python programs run. The zero value works.
type Config struct {
	// Interpreter is a Python of at least 3.8: a path, or a name to find in PATH.
	// Default "python3".
	Interpreter string
	// Scratch is the directory that code and what it writes are kept in, each in
	// directories of their own. Default os.TempDir. Workers may share it: what one
	// has left that was killed, the next one removes.
	Scratch string
	// Memory bounds each instance of a program that doesn't say so itself, in
	// bytes. Default 256 MiB, of which an interpreter takes ten; numpy takes 40 more.
	Memory int64
	// Concurrency is how many calls of a program run at once that doesn't say so
	// itself, each in an instance. Default twice as many as there are processors, and at
	// least 4. An instance that isn't used takes some 10 MiB.
	Concurrency int
	// Blocked is how many calls of a program may wait for calls of their own beside those
	// that run. Each keeps its instance. Default 96, and at least wire.MaxDepth.
	Blocked int
	// Idle is after how long without a call an instance is ended; one stays.
	// Default 60 s. More means fewer cold starts, of some 50 ms.
	Idle time.Duration
	// Read are files and directories that functions may read beside the system's and
	// Python's own, where they run as the worker's user.
	Read []string
	// Warn is told what protection can't be given on this machine. Nil drops it.
	Warn func(text string)
}

// Validate returns all that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Memory != 0 && c.Memory < minMemory {
		errs = append(errs, fmt.Errorf("memory of %d bytes: Python takes %d at least", c.Memory, int64(minMemory)))
	}
	if c.Concurrency < 0 {
		errs = append(errs, fmt.Errorf("concurrency of %d", c.Concurrency))
	}
	if c.Idle < 0 {
		errs = append(errs, fmt.Errorf("idle time of %v", c.Idle))
	}
	return errors.Join(errs...)
}

// minMemory is what an interpreter starts with, without any program.
const minMemory = 32 << 20

// A Runtime loads Python programs. It may be used concurrently.
type Runtime struct {
	cfg   Config
	place chan struct{} // filled by who looks for the interpreter, and owns what follows
	found *interpreter

	unconfined sync.Once   // the warning that instances aren't
	shares     atomic.Bool // temporary directories can't be an instance's own
}

var _ runtime.Runtime = (*Runtime)(nil)

// New returns a Runtime. It looks for the interpreter when a program is loaded.
func New(cfg Config) *Runtime {
	cfg.Interpreter = cmp.Or(cfg.Interpreter, "python3")
	cfg.Scratch = cmp.Or(cfg.Scratch, os.TempDir())
	cfg.Memory = cmp.Or(cfg.Memory, 256<<20)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, max(4, 2*stdruntime.GOMAXPROCS(0)))
	cfg.Blocked = cmp.Or(cfg.Blocked, 96)
	cfg.Idle = cmp.Or(cfg.Idle, time.Minute)
	if cfg.Warn == nil {
		cfg.Warn = func(string) {}
	}
	return &Runtime{cfg: cfg, place: make(chan struct{}, 1)}
}

// ours is what an instance runs: shim.py starts, cloudburst.py is what programs import.
//
//go:embed shim.py cloudburst.py _cloudburst_program.py _cloudburst_values.py
var ours embed.FS

// Load copies a program and starts its first instance beside that. A program that can't be
// imported, or hasn't the function, is an error of wire.KindInvalid with Python's
// traceback; a machine without Python one of wire.KindUnavailable.
func (r *Runtime) Load(ctx context.Context, p runtime.Program) (runtime.Loaded, error) {
	if err := r.cfg.Validate(); err != nil {
		return nil, &wire.Error{Op: "load", Name: p.Function, Kind: wire.KindInvalid, Msg: err.Error(), Err: err}
	}
	memory, concurrency := cmp.Or(p.Memory, r.cfg.Memory), cmp.Or(p.Concurrency, r.cfg.Concurrency)
	if memory < minMemory || concurrency < 1 {
		return nil, &wire.Error{
			Op: "load", Name: p.Function, Kind: wire.KindInvalid,
			Msg: fmt.Sprintf("memory of %d bytes and concurrency of %d: %d and 1 at least", memory, concurrency, int64(minMemory)),
		}
	}
	python, err := r.interpreter(ctx)
	if err != nil {
		return nil, &wire.Error{Op: "load", Name: p.Function, Kind: wire.KindUnavailable, Msg: err.Error(), Err: err}
	}
	room := runtime.NewRoom(concurrency, r.cfg.Blocked)
	f := &function{
		runtime: r, name: p.Function, python: python, entry: p.Entry, args: p.Args, memory: memory, idleFor: r.cfg.Idle,
		room: room, places: room.Held(), live: make(map[*instance]struct{}),
	}
	if err = f.settle(r.cfg.Scratch); err == nil {
		err = f.first(ctx, p)
	}
	if err != nil {
		_ = f.Close() // it never fails
		return nil, err
	}
	return f, nil
}

// settle puts all that instances need, but for the program, into a directory, which no
// other function's instances can enter.
func (f *function) settle(scratch string) (err error) {
	f.group = f.python.ids.take()
	if f.home, err = makeHome(scratch, f.group); err != nil {
		return fmt.Errorf("load %q: %w", f.name, err)
	}
	if err := os.CopyFS(f.home.dir, ours); err != nil {
		return fmt.Errorf("load %q: %w", f.name, err)
	}
	return fs.WalkDir(ours, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(filepath.Join(f.home.dir, name), 0o644) // whatever the umask
	})
}

// copy copies the program to where instances look for it.
func (f *function) copy(p runtime.Program) error {
	files, err := filesOf(p)
	if err == nil {
		err = copyFiles(filepath.Join(f.home.dir, "code"), files)
	}
	if _, known := errors.AsType[*wire.Error](err); err == nil || known {
		return err
	}
	return fmt.Errorf("load %q: copy program: %w", f.name, err)
}

// settings are what an instance is told as it starts.
type settings struct {
	Entry     string   `json:"entry"`
	Args      []string `json:"args"`
	Memory    int64    `json:"memory"`
	Processes int      `json:"processes"` // 0 doesn't bound them
	Alone     bool     `json:"alone"`     // nobody else runs as its user
	Read      []string `json:"read"`
	Modules   []string `json:"modules"` // where Python has its modules
	Eager     int64    `json:"eager"`   // ns for which it looks for a frame before it sleeps
}

// arguments are an instance's command line.
func (f *function) arguments() ([]string, error) {
	s := settings{Entry: f.entry, Args: f.args, Memory: f.memory, Read: f.runtime.cfg.Read, Modules: f.python.modules}
	if stdruntime.GOMAXPROCS(0) > 1 {
		s.Eager = instanceEagerFor.Nanoseconds()
	}
	if f.python.ids.alone() {
		s.Processes, s.Alone = processesAtMost, true
	}
	text, err := json.Marshal(s)
	return []string{f.python.path, "-I", "-S", filepath.Join(f.home.dir, "shim.py"), filepath.Join(f.home.dir, "code"), string(text)}, err
}

// processesAtMost bounds the processes and threads of an instance that has a user of
// its own. Those of a user who has others can't be bounded: the kernel counts them all.
const processesAtMost = 128
