package broker

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Wait is what a run waits for that has no call which waits or runs.
type Wait struct {
	For   string    `json:"for"`            // "timer", "signal" or "input"
	Node  string    `json:"node,omitempty"` // which node waits; empty: the run hasn't begun
	Name  string    `json:"name,omitempty"` // of the signal, or of the nodes whose results are missing
	Since time.Time `json:"since,omitzero"` // when the last that is there came
	Until time.Time `json:"until,omitzero"` // when the timer fires
}

// waiting lists runs that wait for a timer, a signal or an input, the newest last, as far
// as they aren't known.
func (b *Broker) waiting(ctx context.Context, filter RunFilter, known map[wire.RunID]bool) ([]RunInfo, error) {
	var found []RunInfo
	take := func(stream string) func(*nats.Msg) bool {
		return func(msg *nats.Msg) bool {
			info := waitingOf(stream, msg)
			if filter.matches(&info) && !known[info.Run] {
				known[info.Run] = true
				found = append(found, info)
			}
			return len(found) < marksAtMost
		}
	}
	if err := b.scan(ctx, StreamRuns, subjectRun+"*."+runPinned, 0, take(StreamRuns)); err != nil {
		return nil, err
	}
	if err := b.scan(ctx, StreamTimers, subjectTimer+"*.0."+timerCall, 0, take(StreamTimers)); err != nil {
		return nil, err
	}
	found, err := b.withoutEnded(ctx, found)
	if err != nil {
		return nil, err
	}
	list := make([]RunInfo, 0, min(len(found), filter.Limit))
	for _, info := range found {
		if len(list) == filter.Limit {
			break
		}
		failed, err := b.last(ctx, StreamRuns, runSubject(info.Run, runFailed))
		if err != nil {
			return nil, err
		}
		if failed != nil {
			continue // its result has run out
		}
		if info.Waits, err = b.waitsOf(ctx, info.Run); err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// waitingOf tells of a run by what it began with, or by its timer.
func waitingOf(stream string, msg *nats.Msg) RunInfo {
	subject := msg.Header.Get(jetstream.SubjectHeader)
	token := strings.Split(subject, ".")[2]
	info := RunInfo{Run: wire.RunID(unescapeToken(token)), Started: storedAt(msg), Status: wire.StatusRunning}
	if stream == StreamTimers {
		info.Status = wire.StatusPending
		info.Name, _ = parseCallSubject(msg.Header.Get(headerTo))
	} else {
		info.Name, _, _ = strings.Cut(strings.Trim(string(msg.Data), `"`), "@")
	}
	return info
}

// waitsOf says what a run waits for.
func (b *Broker) waitsOf(ctx context.Context, run wire.RunID) ([]Wait, error) {
	timers, err := b.subjectsOf(ctx, StreamTimers, subjectTimer+runToken(run)+".>")
	if err != nil {
		return nil, err
	}
	var waits []Wait
	for _, subject := range timers[:min(len(timers), waitsShown)] {
		timer, err := b.last(ctx, StreamTimers, subject)
		if err != nil {
			return nil, err
		}
		if timer == nil {
			continue // it has fired
		}
		w := Wait{For: "timer", Since: storedAt(timer)}
		if step := strings.SplitN(subject, ".", 5)[4]; step != timerCall {
			w.Node = step
		}
		w.Until, _ = time.Parse(time.RFC3339Nano, strings.TrimPrefix(timer.Header.Get(headerSchedule), "@at "))
		waits = append(waits, w)
	}
	more, err := b.lacking(ctx, run)
	waits = append(waits, more...)
	slices.SortFunc(waits, func(x, y Wait) int { return strings.Compare(x.Node, y.Node) })
	return waits, err
}

// waitsShown bounds how many timers of one run are looked at.
const waitsShown = 20

// graphShape is what a DAG's spec says about where inputs meet.
type graphShape struct {
	Nodes []struct {
		Name   string `json:"name"`
		Signal string `json:"signal"`
	} `json:"nodes"`
	Edges []struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"edges"`
}

// lacking says which nodes of a run have some of their inputs, and lack others.
func (b *Broker) lacking(ctx context.Context, run wire.RunID) ([]Wait, error) {
	pin, err := b.last(ctx, StreamRuns, runSubject(run, runPinned))
	if err != nil || pin == nil {
		return nil, err
	}
	name, version, _ := strings.Cut(strings.Trim(string(pin.Data), `"`), "@")
	rec, err := b.DAGVersion(ctx, name, version)
	if err != nil {
		if wire.KindOf(err) == wire.KindUnknown {
			err = nil // somebody removed the DAG by hand
		}
		return nil, err
	}
	var shape graphShape
	if err := json.Unmarshal(rec.Spec, &shape); err != nil {
		return nil, &wire.Error{Op: "read DAG", Name: name, Kind: wire.KindInvalid, Msg: err.Error(), Err: err}
	}
	subjects, err := b.subjectsOf(ctx, StreamRuns, stateOf(run))
	if err != nil {
		return nil, err
	}
	inputs, claimed := inputsAmong(subjects)
	var waits []Wait
	for _, n := range shape.Nodes {
		var missing []string
		for _, e := range shape.Edges {
			if e.To == n.Name && inputs[n.Name][e.From] == "" && !slices.Contains(missing, e.From) {
				missing = append(missing, e.From)
			}
		}
		w := Wait{For: "input", Node: n.Name, Name: strings.Join(missing, ", "), Since: storedAt(pin)}
		if n.Signal != "" && len(missing) == 0 && inputs[n.Name]["$signal"] == "" {
			w.For, w.Name = "signal", n.Signal
		}
		if w.Name == "" || claimed[n.Name] || len(inputs[n.Name]) == 0 {
			continue
		}
		for _, subject := range inputs[n.Name] {
			in, err := b.last(ctx, StreamRuns, subject)
			if err != nil {
				return nil, err
			}
			if in != nil && storedAt(in).After(w.Since) {
				w.Since = storedAt(in)
			}
		}
		waits = append(waits, w)
	}
	return waits, nil
}

// inputsAmong sorts subjects of a run's state: the inputs of each node by where they are
// from, and which nodes were claimed.
func inputsAmong(subjects []string) (inputs map[string]map[string]string, claimed map[string]bool) {
	inputs, claimed = make(map[string]map[string]string), make(map[string]bool)
	for _, subject := range subjects {
		rest := strings.Split(subject, ".")[3:]
		if strings.HasPrefix(rest[0], ":") {
			rest = rest[1:] // it has begun again
		}
		switch {
		case len(rest) == 2 && rest[1] == "claim":
			claimed[rest[0]] = true
		case len(rest) == 3 && rest[1] == "in", len(rest) == 4 && rest[2] == "in":
			if inputs[rest[0]] == nil {
				inputs[rest[0]] = make(map[string]string)
			}
			inputs[rest[0]][unescapeToken(rest[len(rest)-1])] = subject
		}
	}
	return inputs, claimed
}
