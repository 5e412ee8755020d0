package autoscaler

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A site is a pool of which everything is known.
type site struct {
	mu sync.Mutex // guards all of it

	m       Measurement
	fail    error
	workers int
	scaled  []int
	told    []Decision
}

func (s *site) Measure(context.Context, string) (Measurement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m, s.fail
}

func (s *site) Current(context.Context, string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.workers, nil
}

func (s *site) Scaled(_ string, _ int, d Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, d)
}

// becomes has it measure something else from now on.
func (s *site) becomes(m Measurement, fail error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m, s.fail = m, fail
}

func (s *site) Scale(_ context.Context, _ string, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers, s.scaled = n, append(s.scaled, n)
	return nil
}

// pass lets so much of the bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestLoopMeasuresDecidesAndActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{m: Measurement{Pending: 10}}
		l := NewLoop(LoopConfig{Pools: map[string]Policy{"p": {Slots: 2, Min: 1, Stable: 10 * time.Second}}, Events: s}, s, s)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		pass(time.Second + time.Millisecond)
		if !slices.Equal(s.scaled, []int{5}) {
			t.Errorf("10 waiting were answered by %v, want 5 workers, once", s.scaled)
		}
		// What can't be measured changes nothing.
		s.becomes(Measurement{}, errors.New("gone"))
		pass(time.Minute)
		if s.workers != 5 {
			t.Errorf("it scaled to %d on no measurement", s.workers)
		}
		s.becomes(Measurement{}, nil)
		pass(30 * time.Second)
		if s.workers != 1 {
			t.Errorf("after the stable window there are %d workers, want the minimum, 1", s.workers)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(s.told) < 2 || s.told[0].Workers != 5 {
			t.Errorf("events: %+v", s.told)
		}
	})
}

func TestLoopRefusesNonsense(t *testing.T) {
	if err := NewLoop(LoopConfig{Pools: map[string]Policy{"p": {Min: -1}}}, nil, nil).Run(t.Context()); err == nil {
		t.Error("a policy of nonsense was run")
	}
}
