package cloudburst_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// A counted platform counts each call of "add" in state, and the executions beside it.
type counted struct {
	t      *testing.T
	client *cloudburst.Client
	before atomic.Int64 // executions for the key "before"
	events chan string  // what was made anew
}

func newCounted(t *testing.T) *counted {
	t.Helper()
	c := &counted{t: t, client: platform(t), events: make(chan string, 100)}
	serve(t, c.client, "p", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "add", func(ctx context.Context, s *cloudburst.Session, key string) (string, error) {
			if key == "before" {
				c.before.Add(1)
			}
			return key, s.Counter(key).Add(ctx, 1)
		})
		cloudburst.Handle(w, "get", func(ctx context.Context, s *cloudburst.Session, key string) (int64, error) {
			return s.Counter(key).Value(ctx)
		})
	})
	const restored = "cb.event.restored."
	sub, err := c.conn().Subscribe(restored+">", func(msg *nats.Msg) { c.events <- msg.Subject[len(restored):] })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() }) // the connection may be closed
	return c
}

func (c *counted) conn() *nats.Conn { return c.client.Broker().Conn() }

// add calls "add" so many times, all at once, until each has a result.
func (c *counted) add(key string, n int) { c.addAs(key, key, n) }

func (c *counted) addAs(key, ids string, n int) {
	c.t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
			defer cancel()
			id := cloudburst.RunID(fmt.Sprintf("%s-%s-%d", key, ids, i))
			for { // a stream that isn't there refuses calls
				_, err := cloudburst.Call[string](ctx, c.client.With(cloudburst.WithRunID(id)), "add", key)
				if err == nil || ctx.Err() != nil {
					if err != nil {
						c.t.Errorf("call %s: %v", id, err)
					}
					return
				}
				select {
				case <-time.After(50 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	all.Wait()
}

func (c *counted) want(key string, n int64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	if got, err := cloudburst.Call[int64](ctx, c.client, "get", key); err != nil || got != n {
		c.t.Errorf("%s counts %d, %v; want %d", key, got, err, n)
	}
}

// delete deletes as `nats stream rm` and `nats consumer rm` do.
func (c *counted) delete(what, name string) {
	c.t.Helper()
	if _, err := c.conn().Request("$JS.API."+what+".DELETE."+name, nil, 10*time.Second); err != nil {
		c.t.Fatal(err)
	}
}

// wantRestored waits until all of these were made anew.
func (c *counted) wantRestored(names ...string) {
	c.t.Helper()
	for limit := time.After(time.Minute); len(names) > 0; {
		select {
		case got := <-c.events:
			names = slices.DeleteFunc(names, func(name string) bool { return name == got })
		case <-limit:
			c.t.Fatalf("nothing tells that these were made anew: %v", names)
		}
	}
}

// A consumer that somebody deletes is made anew. No call is lost, and none that had
// ended a while ago runs again.
func TestADeletedConsumerIsMadeAnew(t *testing.T) {
	c := newCounted(t)
	c.add("before", 200)
	marks := c.client.Broker().NewWatermarks()
	for began := time.Now(); ; { // the platform sees that they are settled
		if floor, _, err := marks.Ask(t.Context(), "p"); err != nil || time.Since(began) > time.Minute {
			t.Fatalf("settled up to %d: %v", floor, err)
		} else if floor >= 200 {
			break
		}
	}
	stream := broker.CallsStream("p")
	for round := range 3 {
		key := fmt.Sprint("during", round)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.add(key, 100)
		}()
		c.delete("CONSUMER", stream+"."+broker.CallsConsumer)
		c.wantRestored(stream + "." + broker.CallsConsumer)
		<-done
		c.want(key, 100)
	}
	c.want("before", 200)
	if ran := c.before.Load(); ran != 200 {
		t.Errorf("%d executions of 200 calls that had ended", ran)
	}
}

// A calls stream that somebody deletes is made anew, and its workers go on with it.
func TestADeletedCallsStreamIsMadeAnew(t *testing.T) {
	c := newCounted(t)
	for round := range 3 {
		key := fmt.Sprint("n", round)
		c.add(key, 50)
		c.want(key, 50)
		c.addAs("total", key, 50)
		c.want("total", int64(50*(round+1)))
		c.delete("STREAM", broker.CallsStream("p"))
		c.wantRestored(broker.CallsStream("p"))
	}
	c.add("after", 100)
	c.want("after", 100)
}

// Whatever stream or bucket of the platform is deleted, the server makes it anew and
// goes on.
func TestEveryDeletedStreamIsMadeAnew(t *testing.T) {
	c := newCounted(t)
	streams := []string{
		"CB_RUNS", "CB_TIMERS", "CB_DEAD", "CB_BLOBS", "CB_LOGS", "CB_MESSAGES", "KV_cb_results", "KV_cb_workers",
		"KV_cb_dags", "KV_cb_functions", "KV_cb_platform", "OBJ_cb_images", "KV_state",
	}
	for _, name := range streams {
		c.delete("STREAM", name)
	}
	c.wantRestored(streams...)
	c.add("n", 50)
	c.want("n", 50)
	found, err := c.client.Broker().Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Health == broker.HealthBroken {
			t.Errorf("%s %s is broken: %s", f.What, f.Name, f.Detail)
		}
	}
}
