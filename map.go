package cloudburst

import (
	"context"

	"github.com/cloudburst-nats/cloudburst/workers/runtime/handle"
)

// Map returns the map of a key. Nothing is read until it is used.
func (s *State) Map(key string) *Map {
	return &Map{State: State{in: handle.Fields(s.in, key), ns: s.ns}, whole: s.at(key)}
}

// A Map is a key with fields, each of which holds a value of its own kind. Its
// fields are used as keys are, with the methods of State:
//
//	user := s.Map("user:1")
//	err := user.Put(ctx, "name", "Ada")
//	err = user.Counter("likes").Add(ctx, 1)
//	name, err := cloudburst.Get[string](ctx, &user.State, "name")
//
// Maps merge field by field, so nothing is lost where runs write different fields,
// and GetAll reads several as they are at one moment. Of two writes of a register
// the later one stays, at all levels. Fields can't be removed, but Delete takes a
// register's value away. A field that holds another kind is ErrLattice; more than
// four maps within each other are ErrBadArgument. It is Anna's map lattice.
type Map struct {
	State
	whole handle.Place
}

// Fields returns the names of the fields that have a value, sorted.
func (m *Map) Fields(ctx context.Context) ([]string, error) { return m.whole.FieldNames(ctx) }
