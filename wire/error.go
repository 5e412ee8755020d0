package wire

import (
	"errors"
	"fmt"
	"strings"
)

// Kind classes an error by what a caller can do about it. Kinds travel as
// numbers in headers and as words in JSON: they are only ever appended.
type Kind int

// The kinds. Retry says which of them are worth another attempt.
const (
	KindFunction    Kind = iota + 1 // the function returned an error
	KindPanic                       // the function panicked
	KindTimeout                     // the function's time ran out
	KindCancelled                   // the run was cancelled
	KindBadArgument                 // the argument isn't what the function takes
	KindBadName                     // a name that can't be used
	KindUnknown                     // no such function, DAG, run or key
	KindTooLarge                    // a value over the limit
	KindBusy                        // the backlog is full
	KindConflict                    // exists with another configuration
	KindUnavailable                 // the server or its quorum can't be reached
	KindPermanent                   // the function said that retrying is useless
	KindCrashed                     // delivered too often without an answer
	KindLattice                     // two kinds of lattice under one key
	KindInvalid                     // a document (a DAG) that doesn't hold together
	KindNoWorker                    // no worker serves the pool: the call is stored, and waits for one
)

var kindNames = [...]string{
	KindFunction: "function failed", KindPanic: "function panicked", KindTimeout: "timed out",
	KindCancelled: "cancelled", KindBadArgument: "bad argument", KindBadName: "bad name",
	KindUnknown: "unknown", KindTooLarge: "too large", KindBusy: "busy", KindConflict: "conflict",
	KindUnavailable: "unavailable", KindPermanent: "failed for good", KindCrashed: "crashed",
	KindLattice: "lattice kinds differ", KindInvalid: "invalid", KindNoWorker: "no worker",
}

// String returns the kind in words.
func (k Kind) String() string {
	if k > 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", int(k))
}

// MarshalText returns the kind in words.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the kind in words; one that is not known yet reads as
// KindFunction.
func (k *Kind) UnmarshalText(text []byte) error {
	*k = KindFunction
	for i, name := range kindNames {
		if i > 0 && name == string(text) {
			*k = Kind(i)
		}
	}
	return nil
}

// Retry says whether the same call may do better when it runs again.
func (k Kind) Retry() bool {
	switch k {
	case KindFunction, KindPanic, KindTimeout, KindBusy, KindUnavailable, KindNoWorker:
		return true
	default:
		return false
	}
}

// Code returns the kind as an HTTP status, which is what the NATS micro
// protocol's Nats-Service-Error-Code holds by custom.
func (k Kind) Code() int {
	switch k {
	case KindBadArgument, KindBadName, KindInvalid:
		return 400
	case KindUnknown:
		return 404
	case KindConflict, KindLattice, KindCancelled:
		return 409
	case KindTooLarge:
		return 413
	case KindBusy, KindUnavailable, KindNoWorker:
		return 503
	case KindTimeout:
		return 504
	default:
		return 500
	}
}

// An Error is a failure as it crosses packages and the network. It reads as a
// path to the cause: op, kind, name, message.
type Error struct {
	Op    string `json:"op,omitempty"`    // what was being done: "call", "apply dag"
	Kind  Kind   `json:"kind"`            // what a caller can do about it
	Name  string `json:"name,omitempty"`  // the function, DAG, node or key
	Msg   string `json:"error"`           // what happened, and what to do
	Stack string `json:"stack,omitempty"` // where a function panicked
	Err   error  `json:"-"`               // the cause, on this side of the network
}

// Error returns the failure in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	switch {
	case e.Op != "" && e.Name != "":
		fmt.Fprintf(&b, " %q: ", e.Name)
	case e.Name != "":
		fmt.Fprintf(&b, "%q: ", e.Name)
	case e.Op != "":
		b.WriteString(": ")
	}
	b.WriteString(e.Kind.String())
	if e.Msg != "" {
		b.WriteString(": ")
		b.WriteString(e.Msg)
	} else if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause, where it is known on this side of the network.
func (e *Error) Unwrap() error { return e.Err }

// Is matches an Error of the same kind that names nothing in particular, which
// is how the sentinels of the client library are built.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Op == "" && t.Name == "" && t.Msg == ""
}

// KindOf returns the kind of the first Error in err's chain, 0 if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return 0
}
