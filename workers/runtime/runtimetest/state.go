package runtimetest

import (
	"context"
	"sync"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
)

// NewState returns a state that holds nothing: a session as a worker's functions
// have it, over stores in memory, that is never flushed. Whoever shares it sees
// every write at once.
func NewState() *consistency.Session {
	s, err := consistency.NewSession(consistency.Config{
		Identity: consistency.Identity{Writer: "test", Source: "test", Seq: 1, Attempt: 1},
		Stores:   &stores{open: make(map[string]*kvlattice.Store)}, Level: consistency.LWW, Run: "test",
	})
	if err != nil {
		panic(err) // nothing of the above can be wrong
	}
	return s
}

// stores makes a store of each namespace when it is first used.
type stores struct {
	mu   sync.Mutex // guards open
	open map[string]*kvlattice.Store
}

func (s *stores) Store(_ context.Context, ns string) (consistency.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[ns] == nil {
		s.open[ns] = kvlattice.New(kvlattice.Config{Writer: "test"}, latticetest.NewMemory(), nil)
	}
	return s.open[ns], nil
}
