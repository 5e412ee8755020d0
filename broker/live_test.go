package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Runs that may begin again hold back up to where first calls are settled, and nothing
// else, until the last of them has ended.
func TestLiveRunsHoldBackWhatIsSettled(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	w := p.NewWatermarks()
	_, source, err := w.Pool(t.Context(), DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	var calls []*Delivery
	for i := range 4 {
		p.publish(wire.Call{Name: "f", Run: wire.RunID(fmt.Sprintf("run.%d", i))})
		calls = append(calls, p.take())
	}
	live := func(i int) {
		t.Helper()
		if err := p.Live(t.Context(), calls[i].Call.Run, calls[i].Call.Stream); err != nil {
			t.Fatal(err)
		}
	}
	ack := func(i int) {
		t.Helper()
		if err := calls[i].Ack(); err != nil {
			t.Fatal(err)
		}
	}
	settled := func(plain, again uint64) {
		t.Helper()
		eventually(t, fmt.Sprintf("calls are settled up to %d, first calls up to %d", plain, again), func() bool {
			a, errA := w.Settled(t.Context(), source)
			b, errB := w.Settled(t.Context(), source+wire.SourceAgain)
			if errA == nil && a > plain || errB == nil && b > again {
				t.Fatalf("settled up to %d and %d, want %d and %d", a, b, plain, again)
			}
			return errA == nil && errB == nil && a == plain && b == again
		})
	}
	live(2) // marks come in any order
	live(1)
	ack(0)
	settled(1, 0)
	ack(1)
	ack(2)
	settled(3, 0)
	p.Release("run.2", source+wire.SourceAgain)
	settled(3, 0) // run.1 was marked before anything was settled
	p.Release("run.1", source+wire.SourceAgain)
	settled(3, 3)
	live(3)
	ack(3)
	settled(4, 3)
	// Its worker dies between the run's end and the mark's removal.
	h, body := (&wire.Result{Run: "run.3", Status: wire.StatusOK, Value: wire.Value{Body: []byte("1")}}).Encode()
	if _, err := p.put(t.Context(), &nats.Msg{Subject: bucketSubject(BucketResults, "run.3"), Header: nats.Header(h), Data: body}); err != nil {
		t.Fatal(err)
	}
	settled(4, 3)
	p.clock.tell(p.Now().Add(2 * liveUnheard))
	eventually(t, "the mark of a run that has ended is removed", func() bool {
		p.clock.tell(time.Now().Add(2 * liveUnheard)) // whatever else told the time
		floor, err := w.Settled(t.Context(), source+wire.SourceAgain)
		return err == nil && floor == 4
	})
	if floor, err := w.Settled(t.Context(), source+"0"+wire.SourceAgain); err != nil || floor != 0 {
		t.Errorf("first calls of a stream that is gone are settled up to %d, %v", floor, err)
	}
}
