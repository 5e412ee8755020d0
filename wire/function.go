package wire

import (
	"strconv"
	"strings"
	"time"
)

// A Function is a registration: what the platform knows of a function that can
// be called. It is kept as JSON in the bucket cb_functions under its name, and
// each version of one that was deployed under <name>.<version> as well.
type Function struct {
	Name    string `json:"name"`
	Pool    string `json:"pool"`
	Runtime string `json:"runtime"` // RuntimeNative, RuntimePython or RuntimeWasm
	About   string `json:"about,omitempty"`
	// Level is the consistency level of calls that name none. Empty means the default.
	Level string `json:"level,omitempty"`
	// Transactional has all that an execution writes stored at once or not at all,
	// and once.
	Transactional bool `json:"transactional,omitempty"`

	// Timeout bounds one execution. 0 means DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Attempts is how often a call that fails is run in all. 0 means DefaultAttempts.
	Attempts int `json:"attempts,omitempty"`
	// Backoff is the wait before the second attempt; it doubles from there up
	// to MaxBackoff. 0 means DefaultBackoff.
	Backoff time.Duration `json:"backoff,omitempty"`

	Registered time.Time `json:"registered"`

	// Of a function that was deployed; zero for one of a worker's own binary.
	Version int    `json:"version,omitempty"` // 1 is the first
	Image   string `json:"image,omitempty"`   // SHA-256 of its code in hex, its name in the object store
	Size    int64  `json:"size,omitempty"`    // of the image, in bytes
	Entry   string `json:"entry,omitempty"`   // what of the image is called; empty is the runtime's default
	// Args are what its program finds as its command line, after its name.
	Args []string `json:"args,omitempty"`
	// Memory bounds each of its instances, in bytes; Concurrency how many there are
	// on one worker. 0 is the runtime's default.
	Memory      int64 `json:"memory,omitempty"`
	Concurrency int   `json:"concurrency,omitempty"`
	// Check is the argument, as JSON, of a call that a worker tries before it takes
	// the version; its writes are dropped. Want is what it has to return; empty is anything.
	Check string `json:"check,omitempty"`
	Want  string `json:"want,omitempty"`
}

// The runtimes of functions.
const (
	RuntimeNative = "native" // Go code of the worker's own binary
	RuntimePython = "python"
	RuntimeWasm   = "wasm"
)

// LoadWithin is how long a worker may take to get the function's code ready: two minutes, and
// ten seconds more for each MiB of it. A busy machine compiles a MiB of WebAssembly in three.
func (f Function) LoadWithin() time.Duration {
	return 2*time.Minute + time.Duration(f.Size>>20)*10*time.Second
}

// Deployed says whether the function came as an image, and not with a worker.
func (f Function) Deployed() bool { return f.Image != "" }

// ID names this very version of a function that was deployed: <name>@<version>.
func (f Function) ID() string { return f.Name + "@" + strconv.Itoa(f.Version) }

// SplitID takes apart the name of a function that may pin a version, as nodes of
// DAGs do: "square@3" is version 3 of square, "square" has version 0. ok is false
// if what follows the '@' is no version.
func SplitID(id string) (name string, version int, ok bool) {
	name, digits, pinned := strings.Cut(id, "@")
	if !pinned {
		return name, 0, true
	}
	version, err := strconv.Atoi(digits)
	return name, version, err == nil && version > 0 && digits[0] != '+' && digits[0] != '0'
}

// Defaults of a Function.
const (
	DefaultTimeout  = 60 * time.Second
	DefaultAttempts = 3
	DefaultBackoff  = 100 * time.Millisecond
	MaxBackoff      = 30 * time.Second
)

// Limits returns f's limits with the defaults filled in.
func (f Function) Limits() Limits {
	l := Limits{Timeout: f.Timeout, Attempts: f.Attempts, Backoff: f.Backoff}
	if l.Timeout <= 0 {
		l.Timeout = DefaultTimeout
	}
	if l.Attempts <= 0 {
		l.Attempts = DefaultAttempts
	}
	if l.Backoff <= 0 {
		l.Backoff = DefaultBackoff
	}
	return l
}

// Limits bound the execution of one call.
type Limits struct {
	Timeout  time.Duration
	Attempts int
	Backoff  time.Duration
}

// Wait returns how long to wait after the given attempt (1 is the first) failed.
func (l Limits) Wait(attempt int) time.Duration {
	wait := l.Backoff
	for range min(attempt-1, 30) {
		if wait *= 2; wait > MaxBackoff {
			return MaxBackoff
		}
	}
	return wait
}
