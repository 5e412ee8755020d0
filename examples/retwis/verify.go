package retwis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cloudburst-nats/cloudburst"
)

// A reader is what the check reads the state through.
type reader interface {
	// Set returns the elements of a set key as JSON; none if there is no such key.
	Set(ctx context.Context, key string) ([]string, error)
	// Load decodes a register, and says whether there is one.
	Load(ctx context.Context, key string, into any) (bool, error)
}

// A verdict is what a check found.
type verdict struct {
	Posts     int      `json:"posts"`     // acknowledged
	Timelines int      `json:"timelines"` // checked
	Entries   int      `json:"entries"`   // of timelines
	Replies   int      `json:"replies"`   // acknowledged, each found under what it answers
	Follows   int      `json:"follows"`
	Wrong     []string `json:"differences,omitempty"` // sorted
}

// check compares the whole state with the model, many keys at once.
func check(ctx context.Context, m *model, s reader, atOnce int, step func()) (verdict, error) {
	v := verdict{Posts: len(m.posts), Timelines: len(m.profiles)}
	for u := range m.profiles {
		v.Entries += len(m.sets[key("timeline", u)])
		v.Follows += len(m.sets[key("following", u)])
	}
	for _, p := range m.posts {
		if p.To != "" {
			v.Replies++
		}
	}
	var mu sync.Mutex // guards v.Wrong
	checks := m.checks(s)
	err := each(ctx, len(checks), atOnce, func(ctx context.Context, i int) error {
		wrong, err := checks[i](ctx)
		if errors.Is(err, cloudburst.ErrLattice) {
			wrong, err = []string{err.Error()}, nil
		}
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		mu.Lock()
		defer mu.Unlock()
		v.Wrong = append(v.Wrong, wrong...)
		step()
		return nil
	})
	slices.Sort(v.Wrong)
	return v, err
}

// checks returns a check of each key that the model knows.
func (m *model) checks(s reader) []func(context.Context) ([]string, error) {
	var checks []func(context.Context) ([]string, error)
	for _, key := range slices.Sorted(maps.Keys(m.sets)) {
		checks = append(checks, func(ctx context.Context) ([]string, error) {
			elements, err := s.Set(ctx, key)
			return m.compare(key, elements), err
		})
	}
	for u, want := range m.profiles {
		checks = append(checks, sameRegister(s, key("user", u), want))
	}
	for _, id := range slices.Sorted(maps.Keys(m.posts)) {
		checks = append(checks, sameRegister(s, postKey(id), m.posts[id]))
	}
	return checks
}

// sameRegister returns a check that a register holds what it should.
func sameRegister[T comparable](s reader, key string, want T) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		var got T
		found, err := s.Load(ctx, key, &got)
		switch {
		case err != nil:
			return nil, err
		case !found:
			return []string{key + " is not there"}, nil
		case got != want:
			return []string{fmt.Sprintf("%s is %+v, not %+v", key, got, want)}, nil
		}
		return nil, nil
	}
}

// stored is the state as any client reads it, past all workers' caches.
type stored struct{ *cloudburst.State }

func (s stored) Set(ctx context.Context, key string) ([]string, error) {
	elements, err := cloudburst.Elements[json.RawMessage](ctx, s.State.Set(key))
	out := make([]string, len(elements))
	for i, e := range elements {
		out[i] = string(e)
	}
	return out, err
}

func (s stored) Load(ctx context.Context, key string, into any) (bool, error) {
	v, found, err := s.Get(ctx, key)
	if err != nil || !found {
		return false, err
	}
	return true, v.Decode(into)
}

// judge checks what a read of a timeline returned while others wrote: it may
// be old, but not wrong.
func (g *socialGraph) judge(q Query, p Page) error {
	if q.Limit > 0 && len(p.Posts) > q.Limit {
		return fmt.Errorf("timeline:%d returned %d posts, over %d", q.User, len(p.Posts), q.Limit)
	}
	var errs []error
	for i, post := range p.Posts {
		if i > 0 && p.Posts[i-1].ID <= post.ID {
			errs = append(errs, fmt.Errorf("timeline:%d returned %q before %q", q.User, p.Posts[i-1].ID, post.ID))
		}
		if _, followed := slices.BinarySearch(g.follows[q.User], post.User); !followed && post.User != q.User {
			errs = append(errs, fmt.Errorf("timeline:%d returned a post of %d, whom %d doesn't follow", q.User, post.User, q.User))
		}
	}
	return errors.Join(errs...)
}
