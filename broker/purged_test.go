package broker

import (
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Somebody purges calls before they ran. The stream takes their ids for duplicates as long
// as its window lasts; a call under such an id runs all the same, and once.
func TestAnIDWhoseCallWasPurgedCanBeCalled(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	call := wire.Call{Name: "echo", Run: "order-1", Args: arg("1")}
	p.publish(call)
	if err := p.purgeThrough(t.Context(), CallsStream(DefaultPool), "cb.call.echo", 1<<62); err != nil {
		t.Fatal(err)
	}
	ran := p.serve()
	began := time.Now()
	for range 2 {
		r, err := p.Call(t.Context(), call)
		if err != nil || string(r.Value.Body) != "1" || r.Run != "order-1" {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %v", took)
	}
	if n := ran.Load(); n != 1 {
		t.Errorf("ran %d times", n)
	}
}
