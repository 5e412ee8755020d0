// Package backoff waits between tries. Each wait is twice as long as the last one, up to a
// bound. Chance makes each wait up to half as long again, or shorter, so that many callers
// don't try at once.
package backoff

import (
	"context"
	"iter"
	"math/rand/v2"
	"time"
)

// Tries yields 1, 2, 3 and so on, and waits before each number but the first. The first
// wait takes about first, and no wait takes more than 1.5 times most. Tries ends when ctx
// does, but always yields 1. Both durations must be above 0.
//
//	for range backoff.Tries(ctx, 10*time.Millisecond, time.Second) {
//		if done := try(); done {
//			return nil
//		}
//	}
//	return context.Cause(ctx)
func Tries(ctx context.Context, first, most time.Duration) iter.Seq[int] {
	return func(yield func(int) bool) {
		for try, wait := 1, first; yield(try); try, wait = try+1, min(2*wait, most) {
			select {
			case <-time.After(wait/2 + rand.N(wait)): //nolint:gosec // chance only spreads tries
			case <-ctx.Done():
				return
			}
		}
	}
}
