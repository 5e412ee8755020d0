package backoff_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudburst-nats/cloudburst/internal/backoff"
)

func TestWaitsDoubleUpToTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const first, most = 10 * time.Millisecond, 100 * time.Millisecond
		last, want := time.Now(), first
		for try := range backoff.Tries(t.Context(), first, most) {
			waited := time.Since(last)
			switch {
			case try == 1 && waited != 0:
				t.Errorf("it waited %v before the first try", waited)
			case try > 1 && (waited < want/2 || waited >= want*3/2):
				t.Errorf("it waited %v before try %d; want %v, half as long more or less", waited, try, want)
			}
			if try > 1 {
				want = min(2*want, most)
			}
			if last = time.Now(); try == 10 {
				break
			}
		}
	})
}

func TestTheEndOfTheContextEndsTheTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		began, tries := time.Now(), 0
		for range backoff.Tries(ctx, 100*time.Millisecond, time.Hour) {
			tries++
		}
		if took := time.Since(began); took != time.Second || tries < 3 || tries > 6 {
			t.Errorf("%d tries in %v; want some, within a second", tries, took)
		}
	})
}

func TestTheFirstTryIsAlwaysMade(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tries := 0
	for range backoff.Tries(ctx, time.Hour, time.Hour) {
		tries++
	}
	if tries != 1 {
		t.Errorf("%d tries, want 1", tries)
	}
}
