// Package history checks what runs have read and written against what a
// consistency level promises. It knows nothing of how the promise is kept: it
// sees a recorded history, and nothing else.
//
// An Execution is one execution of one node of a run: what it read and wrote, in
// order, on which worker and when, and after which others. Every write writes a
// value with an id of its own, and a read tells the ids of the versions that it
// was shown. From that alone follows, for every version, its *past*: all versions
// that its writer had been shown before, or had written, and all of their pasts.
// A version is before another one of the same key if it is in that one's past;
// two of which neither is before the other are concurrent.
//
// A call may run more than once. All its executions make one write. A run that replaced
// the write of one execution has replaced the write of the others, too. So a repeat of the
// call doesn't bring its write back.
//
// A write counts from the last time that its execution wrote the key: what came
// before is overwritten within the execution, and nobody else is shown it.
// Executions that were killed, or that a run left behind when it began again,
// count as writers, since what they wrote may be stored. What they read is not
// held against the level: their runs never used it.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// An Op is a read or a write of a key.
type Op struct {
	Key   string   `json:"key"`
	Read  []string `json:"read,omitempty"`  // the versions that were shown; none if there is none
	Write string   `json:"write,omitempty"` // the version that was written; empty for a read
}

// An Execution is one execution of a node.
type Execution struct {
	ID       string   `json:"id"` // nobody else's
	Run      string   `json:"run"`
	Node     string   `json:"node"`
	Worker   string   `json:"worker"` // an incarnation: a worker that was killed is another one afterwards
	Level    string   `json:"level,omitempty"`
	Epoch    int      `json:"epoch,omitempty"` // how often the run had begun again
	Attempt  int      `json:"attempt,omitempty"`
	Upstream []string `json:"upstream,omitempty"` // executions whose results it was given
	Start    int64    `json:"start"`              // nanoseconds since 1970, of one machine's clock
	End      int64    `json:"end"`
	Ops      []Op     `json:"ops,omitempty"`
}

// An Outcome is a run that ended well.
type Outcome struct {
	Run   string   `json:"run"`
	Start int64    `json:"start"` // as its caller saw it
	End   int64    `json:"end"`   // all that it wrote was stored by then
	Final []string `json:"final"` // the executions that made the result
}

// A History is what was recorded, in any order.
type History struct {
	Executions []Execution
	Outcomes   []Outcome
}

// A record is one line of a recorded history.
type record struct {
	Execution *Execution `json:"execution,omitempty"`
	Outcome   *Outcome   `json:"outcome,omitempty"`
}

// A Recorder writes executions, one line and one Write each, so that a process
// that is killed leaves every line that it has written. It may be used
// concurrently.
type Recorder struct {
	mu sync.Mutex // held while w is written to
	w  io.Writer
}

// NewRecorder returns a recorder that writes to w.
func NewRecorder(w io.Writer) *Recorder { return &Recorder{w: w} }

// Record writes an execution. It is to be called before what the execution wrote
// is stored: a version that others are shown must have a known writer.
func (r *Recorder) Record(e Execution) error {
	line, err := json.Marshal(record{Execution: &e})
	if err != nil {
		return fmt.Errorf("record execution: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("record execution: %w", err)
	}
	return nil
}

// Read reads what recorders and Write wrote. A last line that isn't whole, as a
// killed process leaves it, is left out; any other is an error.
func Read(r io.Reader) (*History, error) {
	h := new(History)
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return h, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return nil, fmt.Errorf("read history, line %d: %w", n, err)
		}
		if rec.Execution != nil {
			h.Executions = append(h.Executions, *rec.Execution)
		}
		if rec.Outcome != nil {
			h.Outcomes = append(h.Outcomes, *rec.Outcome)
		}
	}
}

// Write writes the history so that Read reads it.
func (h *History) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	for i := range h.Executions {
		if err := enc.Encode(record{Execution: &h.Executions[i]}); err != nil {
			return fmt.Errorf("write history: %w", err)
		}
	}
	for i := range h.Outcomes {
		if err := enc.Encode(record{Outcome: &h.Outcomes[i]}); err != nil {
			return fmt.Errorf("write history: %w", err)
		}
	}
	return nil
}

// String shows the history to a person: a line for each execution, in the order
// in which they began.
func (h *History) String() string {
	ordered := slices.Clone(h.Executions)
	slices.SortFunc(ordered, func(a, b Execution) int { return int(a.Start - b.Start) })
	var b strings.Builder
	for _, e := range ordered {
		fmt.Fprintf(&b, "%s on %s, %dus to %dus", e.ID, e.Worker, (e.Start-ordered[0].Start)/1000, (e.End-ordered[0].Start)/1000)
		if len(e.Upstream) > 0 {
			fmt.Fprintf(&b, ", after %s", strings.Join(e.Upstream, " and "))
		}
		b.WriteString(":")
		for _, o := range e.Ops {
			fmt.Fprintf(&b, " %s", o)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// String shows an operation: "k=>v1,v2" is a read, "k=v3" a write.
func (o Op) String() string {
	if o.Write != "" {
		return o.Key + "=" + o.Write
	}
	return o.Key + "=>" + strings.Join(o.Read, ",")
}
