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

	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

// A registry is what the buckets of functions and DAGs held when it was read,
// and the edits made to that copy since.
type registry struct {
	functions map[string]wire.Function
	deployed  map[string]wire.Function // every version, by <name>.<version>
	dags      map[string]DAGRecord     // the newest of each name
	versions  map[string]DAGRecord     // by <name>.<version>

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
		last:      make(map[string]uint64),
		upTo:      make(map[string]uint64),
	}
}

// read takes in all that was written since the last read.
func (r *registry) read(ctx context.Context, b *Broker) error {
	for _, bucket := range []string{BucketFunctions, BucketDAGs} {
		err := b.scan(ctx, bucketStream(bucket), bucketSubject(bucket, ">"), r.upTo[bucket]+1, func(msg *nats.Msg) bool {
			if err := r.take(bucket, msg); err != nil {
				b.observe.unreadable(msg, err)
			}
			return true
		})
		if err != nil {
			return apiError("read registry", bucket, err)
		}
	}
	return nil
}

// take takes in one entry. What somebody wrote by hand and can't be read
// counts as absent.
func (r *registry) take(bucket string, msg *nats.Msg) error {
	subject, seq := msg.Header.Get(jetstream.SubjectHeader), sequenceOf(msg)
	key := strings.TrimPrefix(subject, bucketSubject(bucket, ""))
	r.last[subject], r.upTo[bucket] = seq, seq
	r.drop(bucket, key)
	if isMarker(msg) {
		r.gone = append(r.gone, edit{bucket: bucket, key: key})
		return nil
	}
	err := r.takeEntry(bucket, key, msg.Data)
	if err != nil {
		r.gone = append(r.gone, edit{bucket: bucket, key: key})
	}
	return err
}

func (r *registry) takeEntry(bucket, key string, body []byte) error {
	if bucket == BucketFunctions {
		if strings.Contains(key, ".") {
			return decodeEntry(r.deployed, key, body, func(f *wire.Function) bool { return versionKey(f.Name, f.Version) == key })
		}
		return decodeEntry(r.functions, key, body, func(f *wire.Function) bool { return f.Name == key })
	}
	if strings.Contains(key, ".") {
		return decodeEntry(r.versions, key, body, func(rec *DAGRecord) bool { return rec.key() == key })
	}
	return decodeEntry(r.dags, key, body, func(rec *DAGRecord) bool { return rec.Name == key })
}

func (r *registry) drop(bucket, key string) {
	if bucket == BucketFunctions {
		delete(r.functions, key)
		delete(r.deployed, key)
		return
	}
	delete(r.dags, key)
	delete(r.versions, key)
}

// merge adds what another copy, that went on reading where this one ended, has
// read. A key appears there once, since a bucket keeps one entry of each.
func (r *registry) merge(later *registry) {
	for _, e := range later.gone {
		r.drop(e.bucket, e.key)
	}
	maps.Copy(r.functions, later.functions)
	maps.Copy(r.deployed, later.deployed)
	maps.Copy(r.dags, later.dags)
	maps.Copy(r.versions, later.versions)
	maps.Copy(r.last, later.last)
	maps.Copy(r.upTo, later.upTo)
}

// decodeEntry adds an entry if it can be read and is ok.
func decodeEntry[T any](into map[string]T, key string, body []byte, ok func(*T) bool) error {
	var entry T
	if err := json.Unmarshal(body, &entry); err != nil {
		return err
	}
	if !ok(&entry) {
		return &wire.Error{Op: "read registry", Name: key, Kind: wire.KindInvalid, Msg: "the entry bears another name than its key"}
	}
	into[key] = entry
	return nil
}

// edit makes the change and says in whose name what is wrong with it.
func (r *registry) edit(op string, change func(*registry) error) error {
	if err := change(r); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
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
		if _, taken := r.dags[f.Name]; taken {
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
		return &wire.Error{Name: name, Kind: wire.KindUnknown, Msg: "there is no such DAG"}
	}
	delete(r.dags, name)
	r.edits = append(r.edits, edit{bucket: BucketDAGs, key: name})
	return nil
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
	for name, f := range r.functions {
		pools[CallSubject(name)] = f.Pool
	}
	for name, rec := range r.dags {
		pools[CallSubject(name)] = rec.Pool
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
