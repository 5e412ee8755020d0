// Package wire is the vocabulary that every part of Cloudburst shares: a call,
// its value, its result, a function's registration, an error, and how each of
// them looks as NATS headers and bytes. It does no I/O and knows no NATS client.
//
// A Value is the user's bytes, JSON unless its type says otherwise, and it
// travels as the body of a message, so that the plain nats CLI shows it. All
// that Cloudburst itself needs to know travels beside it in headers "Cb-*".
package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Headers of calls and results. Nats-Msg-Id is NATS's own: it names the run,
// and the stream drops a second message that carries the same one.
const (
	HeaderRun      = "Nats-Msg-Id"
	HeaderReply    = "Cb-Reply"           // the inbox that awaits the result
	HeaderDAG      = "Cb-Dag"             // <name>@<version> of the run's DAG
	HeaderOf       = "Cb-Run"             // the run that a node's call belongs to
	HeaderStatus   = "Cb-Status"          // of a result: ok, failed, cancelled
	HeaderInfo     = "Cb-Info"            // of a result: run, name, worker, started, took, attempts
	HeaderError    = "Cb-Error"           // the Kind of a failure, as a number
	HeaderWorker   = "Cb-Worker"          // of a dead letter: who ran it
	HeaderAttempts = "Cb-Attempts"        // of a dead letter: deliveries in all
	HeaderNodes    = "Cb-Nodes"           // of a DAG's result: node, worker, started and took of each
	HeaderLevel    = "Cb-Level"           // consistency level asked for
	HeaderSession  = "Cb-Session"         // what the run has seen so far; of a result, what a next call hands on
	HeaderEpoch    = "Cb-Epoch"           // how often the run has begun again; absent if it hasn't
	HeaderDepth    = "Cb-Depth"           // in how many other runs the run is; absent if in none
	HeaderItem     = "Cb-Item"            // of one of many calls of a node: <which>/<how many>, counted from 0
	HeaderBegan    = "Cb-Began"           // of a node's call: when its run began, in milliseconds since 1970
	HeaderSkipped  = "Cb-Skipped"         // of an input: nothing comes of it
	HeaderFresh    = "Cb-Fresh"           // of a call: nobody else has, or will have, its Nats-Msg-Id
	HeaderPatient  = "Cb-Wait-For-Worker" // of a request to a gateway: wait also while no worker serves the pool
	HeaderDigest   = "Cb-Digest"          // of a node's call: the fingerprint of the call that began its run
	HeaderVersion  = "Cb-Version"         // of a line of log: of the function
	HeaderNumber   = "Cb-Number"          // of a message between functions: the how manieth of its sender
	HeaderType     = "Content-Type"

	// Of a failed result, as the NATS micro protocol has them (ADR-32).
	HeaderServiceError     = "Nats-Service-Error"
	HeaderServiceErrorCode = "Nats-Service-Error-Code"

	HeaderChunks = "Cb-Chunks" // the body is a chunk manifest
)

// RunID names one execution of a function or DAG. It is the Nats-Msg-Id of the
// call when the caller gave one, else "<stream>-<sequence>".
type RunID string

// NewRunID returns a fresh, time-ordered id (UUID version 7).
func NewRunID() RunID { return RunID(uuid.Must(uuid.NewV7()).String()) }

// A Value is an argument, a result or a piece of state: the user's own bytes.
// Whoever is handed a Value may read Body and must not write to it.
type Value struct {
	Body []byte
	Type string // MIME type; empty means application/json
}

// JSON returns v encoded as a JSON Value.
func JSON(v any) (Value, error) {
	switch v := v.(type) {
	case Value:
		return v, nil
	case json.RawMessage:
		if !json.Valid(v) {
			return Value{}, &Error{Kind: KindBadArgument, Msg: "not valid JSON: " + clip(v)}
		}
		return Value{Body: v}, nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return Value{}, &Error{Kind: KindBadArgument, Msg: err.Error()}
	}
	return Value{Body: body}, nil
}

// IsJSON says whether the value's body is meant to be JSON.
func (v Value) IsJSON() bool { return v.Type == "" || v.Type == "application/json" }

// Decode unmarshals a JSON body into the pointer. An empty body reads as null.
// What doesn't fit is an Error of KindBadArgument.
func (v Value) Decode(into any) error {
	if raw, ok := into.(*Value); ok {
		*raw = v
		return nil
	}
	if !v.IsJSON() {
		if raw, ok := into.(*[]byte); ok {
			*raw = v.Body
			return nil
		}
		return &Error{Kind: KindBadArgument, Msg: fmt.Sprintf("a %s can't be read as JSON", v.Type)}
	}
	body := v.Body
	if len(body) == 0 {
		body = []byte("null")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return &Error{Kind: KindBadArgument, Msg: ExplainJSON(err) + ": " + clip(body), Err: err}
	}
	return nil
}

// ExplainJSON says in plain words why JSON couldn't be read into a Go value.
func ExplainJSON(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		what := "the value"
		if e.Field != "" {
			what = "the field " + e.Field
		}
		return fmt.Sprintf("%s is %s, and has to be %s", what, shapeOf(e.Value), goShape(e.Type))
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("it is not valid JSON, from byte %d on", e.Offset)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// shapeOf puts the decoder's word for a value of JSON into ours.
func shapeOf(value string) string {
	switch word, rest, _ := strings.Cut(value, " "); word {
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "bool":
		return "true or false"
	case "number":
		return strings.TrimSpace("a number " + rest)
	default:
		return "a " + value
	}
}

// goShape says what of JSON a Go type is read from.
func goShape(t reflect.Type) string {
	switch kind := t.Kind(); {
	case kind == reflect.Pointer:
		return goShape(t.Elem())
	case kind == reflect.String:
		return "a string"
	case kind == reflect.Bool:
		return "true or false"
	case kind == reflect.Float32 || kind == reflect.Float64:
		return "a number (" + kind.String() + ")"
	case kind >= reflect.Int && kind <= reflect.Uintptr:
		return "a whole number (" + kind.String() + ")"
	case kind == reflect.Slice || kind == reflect.Array:
		return "a list"
	case kind == reflect.Struct || kind == reflect.Map:
		return "an object"
	default:
		return "a " + t.String()
	}
}

// clip shortens a body so that an error can quote it.
func clip(b []byte) string {
	const most = 80
	if len(b) > most {
		return string(b[:most]) + "…"
	}
	return string(b)
}

// MaxName is the longest name of a function, DAG, node, pool or namespace.
const MaxName = 64

var nameRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)

// CheckName says whether name can name a function, DAG, node, pool or
// namespace (what says which): letters, digits, '_' and '-', so that it is one
// token of a subject.
func CheckName(what, name string) error {
	switch {
	case name == "":
		return &Error{Kind: KindBadName, Name: what, Msg: "a " + what + " needs a name"}
	case len(name) > MaxName:
		return &Error{Kind: KindBadName, Name: name, Msg: fmt.Sprintf("%s name is %d characters long, %d at most", what, len(name), MaxName)}
	case !nameRule.MatchString(name):
		return &Error{Kind: KindBadName, Name: name, Msg: what + " name: only letters, digits, '_' and '-', and not '-' first"}
	}
	return nil
}

// CheckRunID says whether id can be the id of a run, the platform's own included: it
// becomes a key of the results bucket, so it holds what keys hold.
func CheckRunID(id RunID) error {
	if !keyLike(string(id), maxRunID) {
		return &Error{Kind: KindBadName, Name: string(id), Msg: "run id (Nats-Msg-Id): 1 to 128 of letters, digits, '-', '_', '=', '/' and '.', no empty token"}
	}
	return nil
}

const maxRunID = 128

// What the ids end in, or begin with, that the platform makes itself.
const (
	containedSuffix = "=dag"      // a run inside of another
	replaySuffix    = "=replay"   // a dead letter's
	streamPrefix    = "CB_CALLS_" // of a call without an id: <stream>-<sequence>
)

// CheckCallerID says whether a caller can give a run this id: it is one that runs
// have, and none that the platform gives to runs of its own accord.
func CheckCallerID(id RunID) error {
	if err := CheckRunID(id); err != nil {
		return err
	}
	if s := string(id); strings.HasSuffix(s, containedSuffix) || strings.HasSuffix(s, replaySuffix) || strings.HasPrefix(s, streamPrefix) {
		return &Error{Kind: KindBadName, Name: s, Msg: "run id (Nats-Msg-Id): ids that begin with " + streamPrefix + " or end in " + containedSuffix + " or " + replaySuffix + " are the platform's own; choose another"}
	}
	return nil
}

// Contained returns the id of the run in which a step of a run runs its DAG: the same
// at every attempt, another one each time that the run begins again.
func Contained(run RunID, epoch int, step string) RunID {
	id := string(run) + "/" + step
	if epoch > 0 {
		id += "=" + strconv.Itoa(epoch)
	}
	return fitting(id, containedSuffix)
}

// IsContained says whether an id is of a run inside of another: see Contained.
func IsContained(run RunID) bool { return strings.HasSuffix(string(run), containedSuffix) }

// Replayed returns the id of the run that a dead letter becomes, by its sequence.
func Replayed(run RunID, letter uint64) RunID {
	return fitting(string(run)+"-"+strconv.FormatUint(letter, 10), replaySuffix)
}

// fitting returns id with its suffix; a digest takes the place of one that is too long.
func fitting(id, suffix string) RunID {
	if len(id)+len(suffix) > maxRunID {
		digest := sha256.Sum256([]byte(id))
		id = hex.EncodeToString(digest[:16])
	}
	return RunID(id + suffix)
}

// CheckAddress says whether id can be the id of an execution, which messages are
// sent to: see Address.
func CheckAddress(id string) error {
	run, step, node := strings.Cut(id, ":")
	if !keyLike(run, maxRunID) || node && !keyLike(step, maxRunID) {
		return &Error{Kind: KindBadName, Name: id, Msg: "not the id of a running function: a run's id, and of a DAG's node <run>:<node>"}
	}
	return nil
}

// keyLike says whether s is what a key of a bucket can be, and no longer than most.
func keyLike(s string, most int) bool {
	ok := s != "" && len(s) <= most && s[0] != '.' && s[len(s)-1] != '.'
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '=', c == '/':
		case c == '.':
			ok = s[i-1] != '.'
		default:
			ok = false
		}
	}
	return ok
}
