package cloudburst

import (
	"context"
	"encoding/json"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// State is a handle on one namespace of the state that functions share. A
// function has one in its Session, a program outside has Client.State. What a
// function writes is stored when it returns without an error, and not at all
// otherwise; what a client writes is stored when the method returns.
type State struct {
	in runtime.State
	ns string
}

// In returns a handle on another namespace. A namespace is a NATS KV bucket of
// that name, made when it is first used.
func (s *State) In(namespace string) *State { return &State{in: s.in, ns: namespace} }

// Get returns the value of a key, and whether there is one. The bytes must not
// be changed. In a worker this is a look into its cache, whose value may be
// older than the last write elsewhere by the time that news travels.
func (s *State) Get(ctx context.Context, key string) (Value, bool, error) {
	return s.in.Get(ctx, s.ns, key)
}

// Versions returns all values of a key that no other has replaced, the one that
// Get returns first. There is more than one after concurrent writes at a causal
// level; a Put then replaces those that the run was shown.
func (s *State) Versions(ctx context.Context, key string) ([]Value, error) {
	return s.in.Versions(ctx, s.ns, key)
}

// GetAll returns the values of several keys as they are at one moment, and which
// of them have one: of what a Transactional function wrote together, all or
// nothing. It asks the server. ErrTooLarge if they are over a thousand.
func (s *State) GetAll(ctx context.Context, keys ...string) (values []Value, found []bool, err error) {
	return s.in.GetAll(ctx, s.ns, keys...)
}

// Put sets a key. v is anything that encodes as JSON, or a Value. Of concurrent
// writes the last one wins, or at the causal levels they stand beside each other.
func (s *State) Put(ctx context.Context, key string, v any) error {
	value, err := wire.JSON(v)
	if err != nil {
		return err
	}
	return s.in.Put(ctx, s.ns, key, value)
}

// Delete removes a key. Deleting what isn't there is no error.
func (s *State) Delete(ctx context.Context, key string) error { return s.in.Delete(ctx, s.ns, key) }

// Counter returns the counter of a key. Nothing is read until it is used.
func (s *State) Counter(key string) *Counter { return &Counter{s, key} }

// Set returns the set of a key. Nothing is read until it is used.
func (s *State) Set(key string) *Set { return &Set{s, key} }

// Get returns the value of a key decoded from JSON; ErrUnknown if there is none.
func Get[T any](ctx context.Context, s *State, key string) (T, error) {
	var out T
	v, found, err := s.Get(ctx, key)
	if err != nil {
		return out, err
	}
	if !found {
		return out, &wire.Error{Op: "get", Name: key, Kind: wire.KindUnknown, Msg: "no such key"}
	}
	err = v.Decode(&out)
	return out, err
}

// A Counter counts up and down. Many may add at once, from many workers,
// without coordination; each call counts once, however often it is retried.
type Counter struct {
	s   *State
	key string
}

// Add adds delta, which may be negative.
func (c *Counter) Add(ctx context.Context, delta int64) error {
	return c.s.in.AddCounter(ctx, c.s.ns, c.key, delta)
}

// Value returns the count; 0 if nothing was ever added.
func (c *Counter) Value(ctx context.Context) (int64, error) {
	return c.s.in.Counter(ctx, c.s.ns, c.key)
}

// A Set is a grow-only set of JSON values.
type Set struct {
	s   *State
	key string
}

// Add adds elements, each anything that encodes as JSON. Adding what is there
// already changes nothing.
func (s *Set) Add(ctx context.Context, elements ...any) error {
	raw := make([]json.RawMessage, len(elements))
	for i, e := range elements {
		v, err := wire.JSON(e)
		if err != nil {
			return err
		}
		raw[i] = v.Body
	}
	return s.s.in.AddSet(ctx, s.s.ns, s.key, raw...)
}

// Elements returns the set's elements decoded from JSON, in the order of their
// JSON text.
func Elements[T any](ctx context.Context, s *Set) ([]T, error) {
	raw, err := s.s.in.Set(ctx, s.s.ns, s.key)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(raw))
	for i, r := range raw {
		if err := (wire.Value{Body: r}).Decode(&out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}
