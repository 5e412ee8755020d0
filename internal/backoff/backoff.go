// Package backoff waits between tries: twice as long each time, up to a bound, and up
// to half as long again or less by chance, so that many who wait don't try at once.
package backoff

import (
	"context"
	"iter"
	"math/rand/v2"
	"time"
)

// Tries yields 1, 2, 3 and so on, and waits before each number but the first: about
// first before the second, and at most about most before any. It ends when ctx does,
// but the first try is always made. Both durations must be above 0.
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
