package cloudburst

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/deployments"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/python"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm"
)

// DeployedPool is the pool that functions are deployed to unless another is named.
const DeployedPool = broker.DeployedPool

// The runtimes of functions that are deployed.
const (
	Python = wire.RuntimePython
	Wasm   = wire.RuntimeWasm
)

// A Deployment is a new version of a function, or a new function. The zero value
// of a field is its default.
type Deployment struct {
	Name string
	// Image is a WebAssembly module, Python source, or a zip of Python files; see
	// ReadImage. 256 MiB at most.
	Image []byte
	// Runtime is Python or Wasm. Default: as the image looks.
	Runtime string
	// Entry is what of the image is called. Default "_start" of a module, else its
	// export "handler"; of Python the function "handler", which may be written as
	// "function" or "module:function".
	Entry string
	// Args are what the program finds as its command line, after its name: argv of a
	// WASI program, sys.argv of Python. They are kept with the version.
	Args []string
	// Pool names the workers that run it. Default DeployedPool.
	Pool  string
	About string // a line of description for people
	// Level is the consistency level of calls that name none; see AtLevel.
	Level         string
	Transactional bool          // see Transactional
	Timeout       time.Duration // of one execution. Default 60 s
	Attempts      int           // of a call that fails, in all. Default 3
	Backoff       time.Duration // before the second attempt, doubled from there. Default 100 ms
	// Memory bounds each instance, in bytes. Default 128 MiB of Wasm, 256 MiB of Python.
	Memory int64
	// Concurrency is how many calls one worker runs at once, each in an instance. Calls that
	// wait for others keep theirs beside those. More take more memory: 10 MiB and more each
	// of Python. Default: some for each core.
	Concurrency int
	// Check is the argument, as JSON, of a call that every worker tries before
	// anybody else gets to call the version; what it writes is dropped. Want is
	// the JSON that it has to return. A version that fails is refused.
	Check, Want string
	// Progress, if set, is told what the deployment is at, and again while it goes on.
	Progress func(Progress)
}

// A Progress is how far a deployment is.
type Progress struct {
	Step        string // "store" the image, "prepare" it on the workers, "publish" the version
	Done, Total int64  // bytes that are stored; of other steps 0
}

// Deploy makes a function, or its next version, of code. It returns once every
// worker of the pool runs new calls with it; calls in hand end with the version
// that they began with. An image that doesn't compile or import, or fails its own
// Check, is refused with ErrInvalid, and nothing changes. ErrUnavailable if the
// pool has no worker that takes deployments, ErrConflict if the name or the pool
// is taken by functions that came with a worker.
func (c *Client) Deploy(ctx context.Context, d Deployment) (Function, error) {
	f, err := d.function()
	if err != nil {
		return Function{}, err
	}
	tell := func(step string, done int64) {
		if d.Progress != nil {
			d.Progress(Progress{Step: step, Done: done, Total: f.Size})
		}
	}
	if f.Image, err = c.broker.PutImage(ctx, d.Image, func(done int64) { tell("store", done) }); err != nil {
		return Function{}, err
	}
	tell("prepare", 0)
	if err := c.broker.PrepareFunction(ctx, f); err != nil {
		return Function{}, err
	}
	tell("publish", 0)
	if f, err = c.broker.PublishFunction(ctx, f); err != nil {
		return Function{}, err
	}
	return f, c.broker.AdoptFunction(ctx, f)
}

// function is the registration, without image and version.
func (d *Deployment) function() (wire.Function, error) {
	f := wire.Function{
		Name: d.Name, Pool: d.Pool, Runtime: d.Runtime, About: d.About, Level: d.Level, Transactional: d.Transactional,
		Timeout: d.Timeout, Attempts: d.Attempts, Backoff: d.Backoff, Size: int64(len(d.Image)), Entry: d.Entry, Args: d.Args,
		Memory: d.Memory, Concurrency: d.Concurrency, Check: d.Check, Want: d.Want,
	}
	if f.Pool == "" {
		f.Pool = DeployedPool
	}
	bad := func(format string, args ...any) (wire.Function, error) {
		return f, &wire.Error{Op: "deploy", Name: d.Name, Kind: wire.KindBadArgument, Msg: fmt.Sprintf(format, args...)}
	}
	switch {
	case wire.CheckName("function", d.Name) != nil:
		return f, wire.CheckName("function", d.Name)
	case wire.CheckName("pool", f.Pool) != nil:
		return f, wire.CheckName("pool", f.Pool)
	case len(d.Image) == 0:
		return bad("the image is empty")
	case d.Timeout < 0 || d.Backoff < 0 || d.Attempts < 0 || d.Memory < 0 || d.Concurrency < 0:
		return bad("time-out, backoff, attempts, memory and concurrency can't be negative")
	case strings.Contains(strings.Join(d.Args, ""), "\x00"):
		return bad("an argument of the command line holds a zero byte (%q)", d.Args)
	case len(strings.Join(d.Args, " ")) > 64<<10:
		return bad("the command line is longer than 64 KiB: give the function an argument, or keep it in state")
	case d.Check != "" && !json.Valid([]byte(d.Check)):
		return bad("the check's argument is not valid JSON: %s", d.Check)
	case d.Want != "" && !json.Valid([]byte(d.Want)):
		return bad("what the check wants is not valid JSON: %s", d.Want)
	case d.Want != "" && d.Check == "":
		return bad("it says what the check wants, and no argument to check with")
	}
	if err := d.inspect(&f); err != nil {
		return f, err
	}
	return f, consistency.Check(d.Level)
}

// inspect names the runtime that the image is for, and refuses an image of no runtime.
func (d *Deployment) inspect(f *wire.Function) error {
	is, err := deployments.Inspect(d.Image)
	if err != nil {
		return fmt.Errorf("deploy %q: %w", d.Name, err)
	}
	if f.Runtime == "" {
		f.Runtime = is
	}
	if f.Runtime != is && (f.Runtime == Python || f.Runtime == Wasm) {
		return &wire.Error{Op: "deploy", Name: d.Name, Kind: wire.KindInvalid, Msg: fmt.Sprintf("the image is of the runtime %s, and %s is asked for: leave the runtime out", is, f.Runtime)}
	}
	return nil
}

// Rollback has an earlier version of a function take all new calls: the given
// one, or for 0 the one before that which takes them now. Later versions stay, to
// roll forward to.
func (c *Client) Rollback(ctx context.Context, name string, version int) (Function, error) {
	f, err := c.broker.RollBack(ctx, name, version)
	if err != nil {
		return Function{}, err
	}
	return f, c.broker.AdoptFunction(ctx, f)
}

// Functions lists all functions by name, each as the version that takes new calls.
func (c *Client) Functions(ctx context.Context) ([]Function, error) { return c.broker.Functions(ctx) }

// Function returns a function; ErrUnknown if there is none of the name.
func (c *Client) Function(ctx context.Context, name string) (Function, error) {
	return c.broker.Function(ctx, name)
}

// Versions lists all versions of a function that was deployed, the oldest first.
func (c *Client) Versions(ctx context.Context, name string) ([]Function, error) {
	return c.broker.FunctionVersions(ctx, name)
}

// RemoveFunction removes a function with all its versions: calls of it are refused
// from now on, and those that wait fail. ErrConflict if a DAG uses it. A worker
// that brings it with it brings it back when it starts.
func (c *Client) RemoveFunction(ctx context.Context, name string) error {
	return c.broker.RemoveFunction(ctx, name)
}

type (
	// LogLine is a line that an execution of a function has printed.
	LogLine = broker.LogLine
	// LogFilter chooses lines.
	LogFilter = broker.LogFilter
)

// Logs hands what functions that were deployed have printed to each, the oldest
// line first; with Follow also what they print from then on, until ctx ends. Lines
// are kept for a day.
func (c *Client) Logs(ctx context.Context, filter LogFilter, each func(LogLine) error) error {
	return c.broker.Logs(ctx, filter, each)
}

// ReadImage makes an image of a file, or of a directory of Python files: those
// below it that aren't hidden, in an archive that is the same whenever they are. A
// file keeps whether it may be executed. A symbolic link is what it leads to, if
// that is within the directory; else it is an error, and so is a file that isn't
// what its name says.
func ReadImage(path string) ([]byte, error) { return deployments.ReadImage(path) }

// Deployed has the worker serve what is deployed to its pool, by default
// DeployedPool, instead of functions of its own. dir is where it keeps images and
// what they were compiled to; workers on one machine may share it, and nobody else
// should be able to write to it. Python functions need python3 on the PATH, or see PythonAt.
func Deployed(dir string) WorkerOption {
	return func(c *deployments.WorkerConfig) {
		c.Library = &deployments.LibraryConfig{Dir: dir}
	}
}

// PythonAt names the interpreter that runs deployed functions in Python: its path, such as
// that of a virtual environment's bin/python, or a name on the PATH. Default "python3", and
// 3.8 at least. Where the worker runs as root, others have to be able to run it.
func PythonAt(path string) WorkerOption {
	return func(c *deployments.WorkerConfig) { c.Python = path }
}

// serveDeployed runs a worker with the runtimes that it needs.
func serveDeployed(ctx context.Context, b *broker.Broker, cfg deployments.WorkerConfig) (err error) {
	modules, err := wasm.New(wasm.Config{Cache: filepath.Join(cfg.Library.Dir, "compiled")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, modules.Close()) }()
	scripts := python.Config{Interpreter: cfg.Python}
	if cfg.Log != nil {
		scripts.Warn = func(text string) { cfg.Log.Warn(text) }
	}
	interpreter := python.New(scripts)
	looking, stop := context.WithCancel(ctx)
	looked := make(chan struct{})
	go func() { // a machine without Python serves what isn't Python
		defer close(looked)
		_ = interpreter.Look(looking)
	}()
	defer func() { stop(); <-looked }()
	library := *cfg.Library
	library.Runtimes = map[string]runtime.Runtime{Wasm: modules, Python: interpreter}
	cfg.Library = &library
	return deployments.RunWorker(ctx, b, cfg)
}
