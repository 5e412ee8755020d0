package wire

import "time"

// A Function is a registration: what the platform knows of a function that can
// be called. It is kept as JSON in the bucket cb_functions under its name.
type Function struct {
	Name    string `json:"name"`
	Pool    string `json:"pool"`
	Runtime string `json:"runtime"` // "native"
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
