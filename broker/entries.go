package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A registry is what the buckets of functions and DAGs held when it was read,
// and the edits made to that copy since.
type registry struct {
	functions map[string]wire.Function
	deployed  map[string]wire.Function // every version, by <name>.<version>
	dags      map[string]DAGRecord     // the newest of each name
	versions  map[string]DAGRecord     // by <name>.<version>
	graphs    map[string][]byte        // DAGs that were written by hand: see ByHand
	broken    map[string]BrokenEntry   // by subject

	last  map[string]uint64 // sequence of each key's entry or marker, by subject
	upTo  map[string]uint64 // read so far, by bucket
	gone  []edit            // removed entries that were read
	edits []edit
}

// An edit is an entry to be written; a nil body removes it.
type edit struct {
	bucket, key string
	body        []byte
}

func newRegistry() *registry {
	return &registry{
		functions: make(map[string]wire.Function),
		deployed:  make(map[string]wire.Function),
		dags:      make(map[string]DAGRecord),
		versions:  make(map[string]DAGRecord),
		graphs:    make(map[string][]byte),
		broken:    make(map[string]BrokenEntry),
		last:      make(map[string]uint64),
		upTo:      make(map[string]uint64),
	}
}

// read takes in all that was written since the last read.
func (r *registry) read(ctx context.Context, b *Broker) error {
	for _, bucket := range []string{BucketFunctions, BucketDAGs} {
		err := b.scan(ctx, bucketStream(bucket), bucketSubject(bucket, ">"), r.upTo[bucket]+1, func(msg *nats.Msg) bool {
			if broken := r.take(bucket, msg); broken != nil {
				b.tellBroken(*broken)
			}
			return true
		})
		if err != nil {
			return apiError("read registry", bucket, err)
		}
	}
	return nil
}

// take takes in one entry. What somebody wrote by hand and can't be used counts as
// absent, and is returned.
func (r *registry) take(bucket string, msg *nats.Msg) *BrokenEntry {
	subject, seq := msg.Header.Get(jetstream.SubjectHeader), sequenceOf(msg)
	key := strings.TrimPrefix(subject, bucketSubject(bucket, ""))
	r.last[subject], r.upTo[bucket] = seq, seq
	r.drop(bucket, key)
	if isMarker(msg) {
		r.gone = append(r.gone, edit{bucket: bucket, key: key})
		return nil
	}
	err := r.takeEntry(bucket, key, msg.Data)
	if err == nil {
		return nil
	}
	r.gone = append(r.gone, edit{bucket: bucket, key: key})
	broken := BrokenEntry{Bucket: bucket, Key: key, Reason: err.Error()}
	r.broken[subject] = broken
	return &broken
}

func (r *registry) takeEntry(bucket, key string, body []byte) error {
	version := strings.Contains(key, ".")
	if bucket == BucketFunctions {
		f, err := decodeFunction(body)
		if err != nil {
			return err
		}
		if version {
			return takeAs(r.deployed, versionKey(f.Name, f.Version), key, f)
		}
		return takeAs(r.functions, f.Name, key, f)
	}
	rec, graph, err := decodeDAG(body)
	switch {
	case err != nil:
		return err
	case version && graph != nil:
		return &wire.Error{Kind: wire.KindInvalid, Msg: "it isn't the record of a version; write the graph under the DAG's name, and the server makes its version"}
	case version:
		return takeAs(r.versions, rec.key(), key, rec)
	case graph != nil:
		return takeAs(r.graphs, key, key, graph)
	}
	return takeAs(r.dags, rec.Name, key, rec)
}

func (r *registry) drop(bucket, key string) {
	delete(r.broken, bucketSubject(bucket, key))
	if bucket == BucketFunctions {
		delete(r.functions, key)
		delete(r.deployed, key)
		return
	}
	delete(r.dags, key)
	delete(r.versions, key)
	delete(r.graphs, key)
}

// merge adds what another copy, that went on reading where this one ended, has
// read. A key appears there once, since a bucket keeps one entry of each.
func (r *registry) merge(later *registry) {
	for subject := range later.last {
		for _, bucket := range []string{BucketFunctions, BucketDAGs} {
			if key, ok := strings.CutPrefix(subject, bucketSubject(bucket, "")); ok {
				r.drop(bucket, key)
			}
		}
	}
	maps.Copy(r.graphs, later.graphs)
	maps.Copy(r.broken, later.broken)
	maps.Copy(r.functions, later.functions)
	maps.Copy(r.deployed, later.deployed)
	maps.Copy(r.dags, later.dags)
	maps.Copy(r.versions, later.versions)
	maps.Copy(r.last, later.last)
	maps.Copy(r.upTo, later.upTo)
}

// takeAs adds an entry whose name is its key's.
func takeAs[T any](into map[string]T, name, key string, entry T) error {
	if name != key {
		return &wire.Error{Kind: wire.KindInvalid, Msg: "it bears another name than its key: " + name}
	}
	into[key] = entry
	return nil
}

// edit makes the change and says in whose name what is wrong with it.
func (r *registry) edit(op string, change func(*registry) error) error {
	if err := change(r); err != nil {
		return named(op, err)
	}
	return nil
}

// named says of an error what was being done.
func named(op string, err error) error {
	if e, ok := err.(*wire.Error); ok && e.Op == "" { //nolint:errorlint // one that is wrapped says more
		ours := *e
		ours.Op = op
		return &ours
	}
	return fmt.Errorf("%s: %w", op, err)
}

// messages are what stores the edits.
func (r *registry) messages() []*nats.Msg {
	msgs := make([]*nats.Msg, len(r.edits))
	for i, e := range r.edits {
		msgs[i] = entryMsg(e.bucket, e.key, e.body, r.last[bucketSubject(e.bucket, e.key)])
	}
	return msgs
}

func (r *registry) register(fns []wire.Function) error {
	var bad []error
	for _, f := range fns {
		old, known := r.functions[f.Name]
		if known && old.Pool != f.Pool {
			bad = append(bad, &wire.Error{Name: f.Name, Kind: wire.KindConflict, Msg: fmt.Sprintf("the function belongs to pool %q; to move it to pool %q, remove it first: `cloudburst fn rm %s`", old.Pool, f.Pool, f.Name)})
			continue
		}
		if _, taken := r.dags[f.Name]; taken && !known {
			bad = append(bad, &wire.Error{Name: f.Name, Kind: wire.KindConflict, Msg: "a DAG has that name"})
			continue
		}
		if old.Deployed() {
			bad = append(bad, &wire.Error{Name: f.Name, Kind: wire.KindConflict, Msg: "a function of that name was deployed; remove it first: `cloudburst fn rm " + f.Name + "`"})
			continue
		}
		if f.Registered = old.Registered; known && reflect.DeepEqual(f, old) {
			continue
		}
		f.Registered = time.Now().UTC()
		if err := r.put(BucketFunctions, f.Name, f); err != nil {
			bad = append(bad, err)
			continue
		}
		r.functions[f.Name] = f
	}
	return errors.Join(bad...)
}

func (r *registry) removeFunction(name string) error {
	if _, known := r.functions[name]; !known {
		if r.removeBroken(BucketFunctions, name) {
			return nil
		}
		return &wire.Error{Name: name, Kind: wire.KindUnknown, Msg: "there is no such function"}
	}
	var users []string
	for dag, rec := range r.dags {
		if slices.ContainsFunc(rec.Functions, func(id string) bool {
			of, _, _ := wire.SplitID(id)
			return of == name
		}) {
			users = append(users, dag)
		}
	}
	if len(users) > 0 {
		slices.Sort(users)
		return &wire.Error{Name: name, Kind: wire.KindConflict, Msg: "used by DAG " + strings.Join(users, ", ") + ": remove or change that first"}
	}
	delete(r.functions, name)
	r.edits = append(r.edits, edit{bucket: BucketFunctions, key: name})
	for key, f := range r.deployed {
		if f.Name == name {
			delete(r.deployed, key)
			r.edits = append(r.edits, edit{bucket: BucketFunctions, key: key})
		}
	}
	return nil
}

func (r *registry) apply(rec DAGRecord) error {
	var bad []error
	if _, taken := r.functions[rec.Name]; taken {
		bad = append(bad, &wire.Error{Name: rec.Name, Kind: wire.KindConflict, Msg: "a function has that name"})
	}
	for _, id := range rec.Functions {
		name, version, _ := wire.SplitID(id)
		if _, known := r.functions[name]; !known {
			bad = append(bad, &wire.Error{Name: rec.Name, Kind: wire.KindUnknown, Msg: fmt.Sprintf("it names the function %q, which is not registered", name)})
		} else if _, known := r.deployed[versionKey(name, version)]; version > 0 && !known {
			bad = append(bad, &wire.Error{Name: rec.Name, Kind: wire.KindUnknown, Msg: fmt.Sprintf("there is no version %d of the function %q: `cloudburst fn show %s` lists those that there are", version, name, name)})
		}
	}
	if len(bad) > 0 {
		return errors.Join(bad...)
	}
	rec.Applied = time.Now().UTC()
	old, known := r.versions[rec.key()]
	switch {
	case known && !bytes.Equal(compact(old.Spec), compact(rec.Spec)):
		return &wire.Error{Name: rec.Name, Kind: wire.KindConflict, Msg: fmt.Sprintf("version %q exists and differs; a version never changes: give the new one another", rec.Version)}
	case known && sameRecord(old, r.dags[rec.Name], rec):
		return nil
	}
	r.drop(BucketDAGs, rec.Name) // a hand may have written something else there
	r.versions[rec.key()], r.dags[rec.Name] = rec, rec
	// The version first: whoever finds the newest finds it as a version too.
	return errors.Join(r.put(BucketDAGs, rec.key(), rec), r.put(BucketDAGs, rec.Name, rec))
}

// sameRecord says whether applying rec would change nothing.
func sameRecord(version, newest, rec DAGRecord) bool {
	for _, r := range []*DAGRecord{&version, &newest, &rec} {
		r.Applied, r.Spec = time.Time{}, compact(r.Spec)
	}
	return reflect.DeepEqual(version, rec) && reflect.DeepEqual(newest, rec)
}

func (r *registry) removeDAG(name string) error {
	if _, known := r.dags[name]; !known {
		if r.removeBroken(BucketDAGs, name) {
			return nil
		}
		return &wire.Error{Name: name, Kind: wire.KindUnknown, Msg: "there is no such DAG"}
	}
	delete(r.dags, name)
	r.edits = append(r.edits, edit{bucket: BucketDAGs, key: name})
	return nil
}

// removeBroken removes an entry that can't be used; it is false if there is none.
func (r *registry) removeBroken(bucket, key string) bool {
	_, broken := r.broken[bucketSubject(bucket, key)]
	if _, graph := r.graphs[key]; !broken && (bucket != BucketDAGs || !graph) {
		return false
	}
	r.drop(bucket, key)
	r.edits = append(r.edits, edit{bucket: bucket, key: key})
	return true
}

func (r *registry) put(bucket, key string, entry any) error {
	body, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	r.edits = append(r.edits, edit{bucket, key, body})
	return nil
}

// layout says which pool listens on which subject: a function's pool on its
// calls, a DAG's on its own; a node's is that of the version that was applied
// last, and outlives the DAG.
func (r *registry) layout() map[string]string {
	pools := make(map[string]string, len(r.functions)+len(r.dags)+4*len(r.versions))
	for name, rec := range r.dags {
		pools[CallSubject(name)] = rec.Pool
	}
	for name, f := range r.functions { // they come first where a hand gave a DAG the same name
		pools[CallSubject(name)] = f.Pool
	}
	versions := slices.SortedFunc(maps.Values(r.versions), func(x, y DAGRecord) int { return x.Applied.Compare(y.Applied) })
	for _, rec := range versions {
		for pool, nodes := range rec.Subjects {
			for _, node := range nodes {
				pools[NodeSubject(rec.Name, node)] = pool
			}
		}
	}
	return pools
}

func compact(raw json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return raw
	}
	return b.Bytes()
}
