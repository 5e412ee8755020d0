package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A DAGRecord is a DAG as the registry keeps it: the newest version under the
// DAG's name, and every version under <name>.<version>, which never changes, for
// the runs that began with it.
type DAGRecord struct {
	Name    string `json:"name"`
	Version string `json:"version"` // letters, digits, '_', '-' and '.'
	// Pool is where calls of the DAG as a whole go.
	Pool string          `json:"pool"`
	Spec json.RawMessage `json:"spec"` // the DAG engine's
	// Functions are those that its nodes name.
	Functions []string `json:"functions"`
	// Subjects are the nodes that get calls of their own, by the pool of their
	// functions.
	Subjects map[string][]string `json:"subjects"`
	Applied  time.Time           `json:"applied"`
}

// key returns where this very version is kept.
func (r *DAGRecord) key() string { return r.Name + "." + r.Version }

// RegisterFunctions registers functions of one pool, or replaces their
// registrations. All problems are reported at once: a name that can't be used,
// and as KindConflict a name that a DAG has, or a function of another pool. What
// is registered already, as it is, is not written again.
func (b *Broker) RegisterFunctions(ctx context.Context, fns []wire.Function) error {
	if len(fns) == 0 {
		return nil
	}
	fns, err := checkFunctions(fns)
	if err != nil {
		return err
	}
	return b.change(ctx, "register functions", fns[0].Pool, func(r *registry) error { return r.register(fns) })
}

// RemoveFunction removes a function: calls of it are refused from now on, and
// those that wait fail. KindConflict if a DAG uses it.
func (b *Broker) RemoveFunction(ctx context.Context, name string) error {
	return b.change(ctx, "remove function", "", func(r *registry) error { return r.removeFunction(name) })
}

// ApplyDAG stores a new version of a DAG, or a new DAG. Its functions must be
// registered. Runs in flight go on with the version that they began with; a
// node that moves to another pool takes the calls of old versions with it.
func (b *Broker) ApplyDAG(ctx context.Context, rec DAGRecord) error {
	if rec.Pool == "" {
		rec.Pool = DefaultPool
	}
	if err := checkDAG(&rec); err != nil {
		return err
	}
	return b.change(ctx, "apply dag", rec.Pool, func(r *registry) error { return r.apply(rec) })
}

// RemoveDAG removes a DAG: calls of it are refused from now on. Its versions
// and its nodes' subjects stay, so that runs in flight come to their end.
func (b *Broker) RemoveDAG(ctx context.Context, name string) error {
	return b.change(ctx, "remove dag", "", func(r *registry) error { return r.removeDAG(name) })
}

// Functions lists the registered functions by name.
func (b *Broker) Functions(ctx context.Context) ([]wire.Function, error) {
	s, err := b.Survey(ctx)
	return s.Functions, err
}

// Function returns a registration; KindUnknown if there is none.
func (b *Broker) Function(ctx context.Context, name string) (wire.Function, error) {
	if err := wire.CheckName("function", name); err != nil {
		return wire.Function{}, err
	}
	return readEntry(ctx, b, BucketFunctions, "function", name, decodeFunction)
}

// DAGs lists the newest version of every DAG by name.
func (b *Broker) DAGs(ctx context.Context) ([]DAGRecord, error) {
	s, err := b.Survey(ctx)
	return s.DAGs, err
}

// DAG returns the newest version of a DAG; KindUnknown if there is no such DAG.
func (b *Broker) DAG(ctx context.Context, name string) (DAGRecord, error) {
	if err := wire.CheckName("DAG", name); err != nil {
		return DAGRecord{}, err
	}
	return readEntry(ctx, b, BucketDAGs, "DAG", name, decodeRecord)
}

// DAGVersion returns one version of a DAG, also after the DAG was removed.
func (b *Broker) DAGVersion(ctx context.Context, name, version string) (DAGRecord, error) {
	rec := DAGRecord{Name: name, Version: version}
	if err := errors.Join(wire.CheckName("DAG", name), checkVersion(version)); err != nil {
		return DAGRecord{}, err
	}
	return readEntry(ctx, b, BucketDAGs, "DAG version", rec.key(), decodeRecord)
}

func readEntry[T any](ctx context.Context, b *Broker, bucket, what, key string, decode func([]byte) (T, error)) (entry T, err error) {
	msg, err := b.last(ctx, bucketStream(bucket), bucketSubject(bucket, key))
	if err != nil {
		return entry, apiError("read "+what, key, err)
	}
	if msg == nil || isMarker(msg) {
		return entry, &wire.Error{Op: "read " + what, Name: key, Kind: wire.KindUnknown, Msg: "there is no such " + what}
	}
	if entry, err = decode(msg.Data); err != nil {
		return entry, &wire.Error{Op: "read " + what, Name: key, Kind: wire.KindInvalid, Msg: err.Error() + "; write it again, or remove it", Err: err}
	}
	return entry, nil
}

// changeTimeout bounds a change. It is long because the server compares all
// subjects of a stream pairwise whenever they change: 0.05 s for a thousand,
// about 5 s for ten thousand.
const changeTimeout = time.Minute

// change makes a change to the registry and to the pools' subjects, which
// follow from it. Changes of all processes happen one after another. pool is
// ensured even if nothing changes: its stream may be new, or gone.
//
// The order is what a crash can do the least harm in: subjects that go, subjects
// that come, then the entries. A subject without an entry takes calls that fail;
// the next try sets it right.
func (b *Broker) change(ctx context.Context, op, pool string, edit func(*registry) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	// Most changes change nothing: a worker that starts again. They don't need the lock.
	r := newRegistry()
	if err := r.read(ctx, b); err != nil {
		return err
	}
	if err := r.edit(op, edit); err != nil {
		return err
	}
	if len(r.edits) == 0 {
		return b.ensureLayout(ctx, r, nil, pool)
	}
	err := b.withLock(ctx, "registry", func(ctx context.Context) error {
		for {
			r := newRegistry()
			if err := r.read(ctx, b); err != nil {
				return err
			}
			before := r.layout()
			if err := r.edit(op, edit); err != nil {
				return err
			}
			if err := b.ensureLayout(ctx, r, before, pool); err != nil {
				return err
			}
			// Stale: what was read came from a replica that lags.
			if err := b.putAll(ctx, r.messages()); !isStale(err) || ctx.Err() != nil {
				return apiError(op, "", err)
			}
		}
	})
	if err == nil {
		b.event(subjectRegistry+strings.ReplaceAll(op, " ", "_"), nil)
	}
	return err
}

// subjectRegistry is where changes of the registry are told of.
const subjectRegistry = subjectEvent + "registry."

// ensureLayout makes every pool that changed listen to what the registry says,
// and the given pool in any case.
func (b *Broker) ensureLayout(ctx context.Context, r *registry, before map[string]string, pool string) error {
	after := r.layout()
	gone, touched := make(map[string][]string), map[string]bool{}
	if pool != "" {
		touched[pool] = true
	}
	if before != nil {
		for subject, was := range before {
			if after[subject] != was {
				gone[was] = append(gone[was], subject)
			}
		}
		for subject, is := range after {
			if before[subject] != is {
				touched[is] = true
			}
		}
	}
	for pool, subjects := range gone {
		if err := b.RemoveSubjects(ctx, pool, subjects); err != nil {
			return err
		}
	}
	want := make(map[string][]string, len(touched))
	for subject, is := range after {
		if touched[is] {
			want[is] = append(want[is], subject)
		}
	}
	for pool, subjects := range want {
		slices.Sort(subjects)
		if err := b.EnsurePool(ctx, pool, subjects); err != nil {
			return err
		}
	}
	return nil
}

// putAll publishes messages and returns once all are acknowledged, or with the
// first error. It keeps a few hundred in flight: a stream refuses thousands.
func (b *Broker) putAll(ctx context.Context, msgs []*nats.Msg) error {
	for part := range slices.Chunk(msgs, 256) {
		acks := make(chan error, len(part))
		for _, msg := range part {
			b.mux.publish(msg, func(_ uint64, err error) { acks <- err })
		}
		var first error
		for range part {
			select {
			case err := <-acks:
				if first == nil {
					first = err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if first != nil {
			return first
		}
	}
	return nil
}

// checkFunctions returns the functions with their pool filled in.
func checkFunctions(fns []wire.Function) ([]wire.Function, error) {
	var bad []error
	fns = slices.Clone(fns)
	names := make(map[string]bool, len(fns))
	for i := range fns {
		f := &fns[i]
		if f.Pool == "" {
			f.Pool = DefaultPool
		}
		if err := wire.CheckName("function", f.Name); err != nil {
			bad = append(bad, err)
		}
		if f.Pool != fns[0].Pool {
			bad = append(bad, &wire.Error{Op: "register functions", Name: f.Name, Kind: wire.KindBadArgument, Msg: fmt.Sprintf("belongs to pool %q, others to %q: register one pool at a time", f.Pool, fns[0].Pool)})
		}
		if f.Deployed() {
			bad = append(bad, &wire.Error{Op: "register functions", Name: f.Name, Kind: wire.KindBadArgument, Msg: "it has an image: deploy it"})
		}
		if names[f.Name] {
			bad = append(bad, &wire.Error{Op: "register functions", Name: f.Name, Kind: wire.KindBadArgument, Msg: "named twice"})
		}
		names[f.Name] = true
	}
	bad = append(bad, wire.CheckName("pool", fns[0].Pool))
	return fns, errors.Join(bad...)
}

func checkDAG(rec *DAGRecord) error {
	bad := []error{wire.CheckName("DAG", rec.Name), wire.CheckName("pool", rec.Pool), checkVersion(rec.Version)}
	for pool, nodes := range rec.Subjects {
		bad = append(bad, wire.CheckName("pool", pool))
		for _, node := range nodes {
			bad = append(bad, wire.CheckName("node", node))
		}
	}
	if !json.Valid(rec.Spec) {
		bad = append(bad, &wire.Error{Op: "apply dag", Name: rec.Name, Kind: wire.KindInvalid, Msg: "its spec is not valid JSON"})
	}
	return errors.Join(bad...)
}

func checkVersion(version string) error {
	if wire.CheckRunID(wire.RunID(version)) != nil { // the rule of keys, which a version becomes part of
		return &wire.Error{Kind: wire.KindBadName, Name: version, Msg: "DAG version: letters, digits, '_', '-' and '.'"}
	}
	return wire.CheckName("DAG version", strings.ReplaceAll(version, ".", "_"))
}

// entryMsg writes a registry entry, unless it isn't at sequence expect any more;
// a nil body removes it.
func entryMsg(bucket, key string, body []byte, expect uint64) *nats.Msg {
	h := nats.Header{jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(expect, 10)}}
	if body == nil {
		h[headerKVOperation] = []string{"DEL"}
	}
	return &nats.Msg{Subject: bucketSubject(bucket, key), Header: h, Data: body}
}
