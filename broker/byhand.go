package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A BrokenEntry is an entry of one of the platform's buckets that can't be used.
// Everybody passes over it: it never keeps another entry from being used.
type BrokenEntry struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// A Survey is what the registries of functions and DAGs hold, by name.
type Survey struct {
	Functions []wire.Function
	DAGs      []DAGRecord
	// ByHand are entries that somebody wrote with a NATS client, and that a server
	// has to complete: see TakeUpDAG and TakeUpFunction.
	ByHand []ByHand
	Broken []BrokenEntry
}

// ByHand is an entry that isn't as this package writes it: a DAG's graph alone, or
// an entry whose version is kept nowhere or differs.
type ByHand struct {
	Bucket, Name string
	// Graph is what was written for a DAG, in YAML or JSON; nil for a function.
	Graph []byte
	Seq   uint64 // of the entry
}

// Survey reads the registries.
func (b *Broker) Survey(ctx context.Context) (Survey, error) {
	r := newRegistry()
	if err := r.read(ctx, b); err != nil {
		return Survey{}, err
	}
	return r.survey(), nil
}

func (r *registry) survey() Survey {
	s := Survey{
		Functions: slices.SortedFunc(maps.Values(r.functions), func(x, y wire.Function) int { return strings.Compare(x.Name, y.Name) }),
		DAGs:      slices.SortedFunc(maps.Values(r.dags), func(x, y DAGRecord) int { return strings.Compare(x.Name, y.Name) }),
		Broken: slices.SortedFunc(maps.Values(r.broken), func(x, y BrokenEntry) int {
			return strings.Compare(x.Bucket+"."+x.Key, y.Bucket+"."+y.Key)
		}),
	}
	for _, f := range s.Functions {
		if version, ok := r.deployed[versionKey(f.Name, f.Version)]; f.Deployed() && (!ok || !sameFunction(version, f)) {
			s.ByHand = append(s.ByHand, ByHand{Bucket: BucketFunctions, Name: f.Name, Seq: r.last[bucketSubject(BucketFunctions, f.Name)]})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.graphs)) {
		s.ByHand = append(s.ByHand, ByHand{Bucket: BucketDAGs, Name: name, Graph: r.graphs[name], Seq: r.last[bucketSubject(BucketDAGs, name)]})
	}
	for _, rec := range s.DAGs {
		if version, ok := r.versions[rec.key()]; !ok || !bytes.Equal(compact(version.Spec), compact(rec.Spec)) {
			s.ByHand = append(s.ByHand, ByHand{Bucket: BucketDAGs, Name: rec.Name, Graph: rec.Spec, Seq: r.last[bucketSubject(BucketDAGs, rec.Name)]})
		}
	}
	for _, rec := range s.DAGs {
		if _, taken := r.functions[rec.Name]; taken {
			s.Broken = append(s.Broken, BrokenEntry{BucketDAGs, rec.Name, "a function has that name: rename one of them"})
		}
	}
	return s
}

// sameFunction says whether two entries are of the same version of a function.
func sameFunction(x, y wire.Function) bool {
	x.Registered, y.Registered = time.Time{}, time.Time{}
	return reflect.DeepEqual(x, y)
}

// TakeUpDAG completes a DAG that was written by hand: rec is what its graph makes.
// An entry that has changed since it was surveyed is left alone.
func (b *Broker) TakeUpDAG(ctx context.Context, by ByHand, rec DAGRecord) error {
	if err := checkDAG(&rec); err != nil {
		return err
	}
	return b.takeUp(ctx, by, rec.Pool, func(r *registry) error { return r.apply(rec) })
}

// TakeUpFunction completes a function that was written by hand: it gets a version,
// unless its own is free, and is kept under that as well.
func (b *Broker) TakeUpFunction(ctx context.Context, by ByHand) error {
	return b.takeUp(ctx, by, "", func(r *registry) error {
		f := r.functions[by.Name]
		if _, taken := r.dags[f.Name]; taken {
			return &wire.Error{Name: f.Name, Kind: wire.KindConflict, Msg: "a DAG has that name"}
		}
		if _, taken := r.deployed[versionKey(f.Name, f.Version)]; taken || f.Version < 1 {
			f.Version = 1
			if all := r.versionsOf(f.Name); len(all) > 0 {
				f.Version = all[len(all)-1].Version + 1
			}
		}
		if f.Registered.IsZero() {
			f.Registered = time.Now().UTC()
		}
		r.functions[f.Name], r.deployed[versionKey(f.Name, f.Version)] = f, f
		return errors.Join(r.put(BucketFunctions, versionKey(f.Name, f.Version), f), r.put(BucketFunctions, f.Name, f))
	})
}

func (b *Broker) takeUp(ctx context.Context, by ByHand, pool string, edit func(*registry) error) error {
	return b.change(ctx, "take up", pool, func(r *registry) error {
		if r.last[bucketSubject(by.Bucket, by.Name)] != by.Seq {
			return nil // somebody has written it again: that is surveyed next
		}
		return edit(r)
	})
}

// decodeFunction reads an entry of a function, with its pool filled in.
func decodeFunction(body []byte) (wire.Function, error) {
	var f wire.Function
	if err := json.Unmarshal(body, &f); err != nil {
		return f, notAnEntry(err)
	}
	if f.Pool == "" {
		f.Pool = DefaultPool
		if f.Deployed() {
			f.Pool = DeployedPool
		}
	}
	return f, errors.Join(wire.CheckName("function", f.Name), wire.CheckName("pool", f.Pool))
}

// decodeDAG reads an entry of a DAG; one without a spec is a graph.
func decodeDAG(body []byte) (rec DAGRecord, graph []byte, err error) {
	var shape struct {
		Spec  json.RawMessage `json:"spec"`
		Nodes json.RawMessage `json:"nodes"`
	}
	if json.Unmarshal(body, &shape) != nil || shape.Spec == nil {
		return rec, append([]byte{}, body...), nil //nolint:nilerr // a graph may be no JSON; it isn't nil, whatever it is
	}
	if err := json.Unmarshal(body, &rec); err != nil {
		return rec, nil, notAnEntry(err)
	}
	if checkDAG(&rec) != nil || len(rec.Subjects) == 0 && rec.Applied.IsZero() {
		return rec, rec.Spec, nil //nolint:nilerr // its graph says all that is missing
	}
	return rec, nil, nil
}

// decodeRecord reads a DAG that a server has taken up.
func decodeRecord(body []byte) (DAGRecord, error) {
	rec, graph, err := decodeDAG(body)
	if err == nil && graph != nil {
		err = &wire.Error{Kind: wire.KindInvalid, Msg: "it was written by hand, and no server has taken it up: `cloudburst doctor` says why"}
	}
	return rec, err
}

func notAnEntry(err error) error {
	return &wire.Error{Kind: wire.KindInvalid, Msg: "it can't be read as JSON of an entry: " + err.Error(), Err: err}
}

// told remembers what a log line was written of, so that it is written once.
type told struct {
	mu   sync.Mutex // guards said
	said map[string]string
}

// toldAtMost bounds what is remembered: beyond it some lines come again.
const toldAtMost = 1000

// once says whether this is the first time that it hears this of a thing.
func (t *told) once(thing, what string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.said[thing] == what {
		return false
	}
	if t.said == nil || len(t.said) >= toldAtMost {
		t.said = make(map[string]string)
	}
	t.said[thing] = what
	return true
}

// tellBroken writes a log line of an entry that is passed over, once for each reason.
func (b *Broker) tellBroken(e BrokenEntry) {
	if b.told.once(e.Bucket+"."+e.Key, e.Reason) {
		b.observe.brokenEntry(e)
	}
}

// TellBroken is told of entries that the caller passes over: see BrokenEntry.
func (b *Broker) TellBroken(entries ...BrokenEntry) {
	for _, e := range entries {
		b.tellBroken(e)
	}
}
