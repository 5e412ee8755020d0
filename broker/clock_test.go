package broker

import (
	"testing"
	"time"
)

// The servers' time doesn't depend on this machine's: only what passes is measured here.
func TestServersTime(t *testing.T) {
	var c serverClock
	if now, fresh := c.now(); fresh || time.Since(now).Abs() > time.Minute {
		t.Errorf("before it is told: %v, fresh %t", now, fresh)
	}
	for _, off := range []time.Duration{time.Hour, -24 * time.Hour, 5 * time.Millisecond} {
		told := time.Now().Add(off)
		c.tell(told)
		first, fresh := c.now()
		second, _ := c.now()
		if !fresh || first.Before(told) || second.Before(first) || first.Sub(told) > time.Minute {
			t.Errorf("told %v: %v, then %v, fresh %t", told, first, second, fresh)
		}
	}
	c.tell(time.Time{}) // an answer without a time says nothing
	if now, fresh := c.now(); !fresh || now.IsZero() {
		t.Errorf("after an answer without a time: %v, fresh %t", now, fresh)
	}
	c.heard = c.heard.Add(-serverTimeAge)
	if _, fresh := c.now(); fresh {
		t.Error("a time that was told long ago is taken for known")
	}
}

// Who writes asks the server once, and then for a while no more.
func TestSyncAsksForTheServersTime(t *testing.T) {
	p := newPlatform(t)
	if _, err := p.OpenBucket(t.Context(), "state"); err != nil {
		t.Fatal(err)
	}
	p.clock = serverClock{}
	before := time.Now()
	for i := range 100 {
		sent := p.nc.Stats().OutMsgs
		if err := p.Sync(t.Context(), "state"); err != nil {
			t.Fatal(err)
		}
		if asked := p.nc.Stats().OutMsgs != sent; asked != (i == 0) {
			t.Fatalf("the %d. time it asked: %t", i+1, asked)
		}
	}
	if now := p.Now(); now.Before(before) || now.After(time.Now()) { // one machine, one clock
		t.Errorf("the servers' time is %v, between %v and %v", now, before, time.Now())
	}
}
