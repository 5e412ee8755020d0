package cloudburst_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/deployments"
)

// put writes n to all kinds of state that are ordered by time.
func put(ctx context.Context, s *cloudburst.State, n int) error {
	return errors.Join(
		s.Put(ctx, "register", n),
		s.OrderedSet("zset").Put(ctx, "ann", float64(n)),
		s.Map("map").Put(ctx, "name", n),
		s.Map("map").OrderedSet("scores").Put(ctx, "bob", float64(n)),
	)
}

// got returns what they hold.
func got(ctx context.Context, s *cloudburst.State) (all [4]int, err error) {
	register, err := cloudburst.Get[int](ctx, s, "register")
	field, err2 := cloudburst.Get[int](ctx, &s.Map("map").State, "name")
	ann, _, err3 := s.OrderedSet("zset").Score(ctx, "ann")
	bob, _, err4 := s.Map("map").OrderedSet("scores").Score(ctx, "bob")
	return [4]int{register, int(ann), field, int(bob)}, errors.Join(err, err2, err3, err4)
}

// storedBy has a worker's calls be stored by a server whose clock is off.
func storedBy(off func() time.Duration) cloudburst.WorkerOption {
	return func(c *deployments.WorkerConfig) {
		c.Stored = func(told time.Time) time.Time { return told.Add(off()) }
	}
}

// bothSides adds the functions of one side: one writes, one calls a function of the other
// side first, one writes as a transaction, and one reads.
func bothSides(side, other string) func(*cloudburst.Worker) {
	return func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "put-"+side, func(ctx context.Context, s *cloudburst.Session, n int) (int, error) {
			return n, put(ctx, &s.State, n)
		})
		cloudburst.Handle(w, "nest-"+side, func(ctx context.Context, s *cloudburst.Session, n int) (int, error) {
			if _, err := cloudburst.Call[int](ctx, s.Client(), "put-"+other, -n); err != nil {
				return 0, err
			}
			return n, put(ctx, &s.State, n)
		})
		cloudburst.Handle(w, "after-"+side, func(ctx context.Context, s *cloudburst.Session, n int) (int, error) {
			return -n, put(ctx, &s.State, -n)
		})
		cloudburst.Handle(w, "commit-"+side, func(ctx context.Context, s *cloudburst.Session, n int) (int, error) {
			return n, put(ctx, &s.State, n)
		}, cloudburst.Transactional())
		cloudburst.Handle(w, "get-"+side, func(ctx context.Context, s *cloudburst.Session, _ struct{}) ([4]int, error) {
			return got(ctx, &s.State)
		})
	}
}

// How a program makes calls that follow each other: each is made once the one before
// has its result.
var callers = map[string]func(c *cloudburst.Client) *cloudburst.Client{
	"without a token": func(c *cloudburst.Client) *cloudburst.Client { return c },
	"with a token": func(c *cloudburst.Client) *cloudburst.Client {
		return c.With(cloudburst.WithToken(cloudburst.NewToken()))
	},
	"at a causal level": func(c *cloudburst.Client) *cloudburst.Client {
		return c.With(cloudburst.WithToken(cloudburst.NewToken()), cloudburst.WithLevel(cloudburst.SessionCausal))
	},
}

func wantAll(t *testing.T, c *cloudburst.Client, n int, what string, args ...any) {
	t.Helper()
	all, err := got(t.Context(), c.State())
	if want := [4]int{n, n, n, n}; err != nil || all != want {
		t.Errorf("%s: %v is stored, %v; want %v", fmt.Sprintf(what, args...), all, err, want)
	}
}

// clocks are how far the clock of one side is ahead of the other's, from call to call.
func clocks() map[string]func() time.Duration {
	back := 45 * time.Second
	always := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	return map[string]func() time.Duration{
		"5ms":     always(5 * time.Millisecond),
		"1s":      always(time.Second),
		"1m":      always(time.Minute),
		"minus1m": always(-time.Minute),
		"back":    func() time.Duration { back = max(back-time.Second, -40*time.Second); return back },
	}
}

// The clocks of workers play no part.
func TestWorkersClocksPlayNoPart(t *testing.T) {
	for name, off := range clocks() {
		t.Run(name, func(t *testing.T) {
			client := platform(t)
			wrong := func() time.Time { return time.Now().Add(off()) }
			serveWith(t, client, bothSides("a", "b"), cloudburst.Pool("a"), cloudburst.Clock(wrong))
			serveWith(t, client, bothSides("b", "a"), cloudburst.Pool("b"))
			for how, caller := range callers {
				c := caller(client)
				for n := 1; n <= 10; n++ {
					call(t, c, "put-a", 2*n)
					call(t, c, "put-b", 2*n+1)
					wantAll(t, client, 2*n+1, "two calls %s", how)
				}
			}
		})
	}
}

func call(t *testing.T, c *cloudburst.Client, name string, n int) {
	t.Helper()
	if _, err := cloudburst.Call[int](t.Context(), c, name, n); err != nil {
		t.Fatal(err)
	}
}

// A program whose calls follow each other has its writes in that order, though the
// servers that stored its calls disagree about the time: by calls, calls inside of calls,
// edges of a DAG, transactions, and the program's own writes.
func TestSequentialCallerWhateverServersClocksSay(t *testing.T) {
	for name, off := range clocks() {
		t.Run(name, func(t *testing.T) {
			client := platform(t)
			serveWith(t, client, bothSides("a", "b"), cloudburst.Pool("a"), storedBy(off))
			serveWith(t, client, bothSides("b", "a"), cloudburst.Pool("b"))
			err := client.ApplyDAG(t.Context(), &cloudburst.Graph{
				Name:  "dag",
				Nodes: []cloudburst.Node{{Name: "x", Function: "put-a"}, {Name: "y", Function: "after-b"}},
				Edges: []cloudburst.Edge{{From: "x", To: "y"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			for how, caller := range callers {
				c := caller(client)
				for n := 1; n <= 5; n++ {
					followEachOther(t, c, n, how)
				}
			}
		})
	}
}

func followEachOther(t *testing.T, c *cloudburst.Client, n int, how string) {
	t.Helper()
	call(t, c, "put-a", 100+n)
	call(t, c, "put-b", 200+n)
	wantAll(t, c, 200+n, "two calls %s", how)
	call(t, c, "commit-a", 300+n)
	call(t, c, "commit-b", 400+n)
	wantAll(t, c, 400+n, "two transactions %s", how)
	call(t, c, "nest-b", 500+n)
	wantAll(t, c, 500+n, "a call in a call %s", how)
	call(t, c, "dag", -600-n)
	wantAll(t, c, 600+n, "an edge %s", how)
	call(t, c, "put-a", 700+n)
	if err := put(t.Context(), c.State(), 800+n); err != nil {
		t.Fatal(err)
	}
	wantAll(t, c, 800+n, "a program's write after a call %s", how)
	call(t, c, "put-b", 900+n)
	wantAll(t, c, 900+n, "a call after a program's write %s", how)
}

// A token takes the order to another process, and a client without the library has it by
// sending back the header that results have. Without that, servers' clocks decide: this
// is what the library keeps from happening.
func TestOrderGoesWithTheToken(t *testing.T) {
	client := platform(t)
	serveWith(t, client, bothSides("a", "b"), cloudburst.Pool("a"), storedBy(func() time.Duration { return time.Minute }))
	serveWith(t, client, bothSides("b", "a"), cloudburst.Pool("b"))
	fresh := func() *cloudburst.Client { return cloudburst.NewClient(client.Broker(), nil) } // it knows nothing

	token := cloudburst.NewToken()
	call(t, fresh().With(cloudburst.WithToken(token)), "put-a", 1)
	parsed, err := cloudburst.ParseToken(token.String())
	if err != nil {
		t.Fatal(err)
	}
	call(t, fresh().With(cloudburst.WithToken(parsed)), "put-b", 2)
	wantAll(t, client, 2, "a token in another process")

	call(t, fresh(), "put-a", 3)
	call(t, fresh(), "put-b", 4)
	wantAll(t, client, 3, "two programs that know nothing of each other")

	bare := func(function, session string, n int) (result string) {
		msg := nats.NewMsg("cb.call." + function)
		inbox := client.Broker().Conn().NewInbox()
		sub, err := client.Broker().Conn().SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		msg.Header.Set("Cb-Reply", inbox)
		if session != "" {
			msg.Header.Set("Cb-Session", session)
		}
		msg.Data, _ = json.Marshal(n)
		if err := client.Broker().Conn().PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
		reply, err := sub.NextMsg(30 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return reply.Header.Get("Cb-Session")
	}
	for _, first := range []string{"", `{"token":true}`} {
		bare("put-b", bare("put-a", first, 11), 12)
		wantAll(t, client, 12, "a bare client that sends %q first and then what it got", first)
	}
}

// A caller can't move its writes further than servers' clocks may differ.
func TestCallerCannotClaimAnyTime(t *testing.T) {
	client := platform(t)
	serveWith(t, client, bothSides("a", "b"), cloudburst.Pool("a"))
	for _, claim := range []time.Duration{2 * time.Minute, 24 * time.Hour} {
		token, err := cloudburst.ParseToken(fmt.Sprintf(`{"stamp":"%016x-00000000"}`, time.Now().Add(claim).UnixNano()))
		if err != nil {
			t.Fatal(err)
		}
		call(t, client.With(cloudburst.WithToken(token)), "put-a", 1)
		call(t, cloudburst.NewClient(client.Broker(), nil), "put-a", 2)
		wantAll(t, client, 2, "after a caller that claimed to know of what is %v ahead", claim)
	}
	for _, text := range []string{`{"stamp":"tomorrow"}`, `{"stamp":"+8ece754585b7cf2-0000002a"}`, `{"stamp":"98ece754585b7cf2-0000002a"}`} {
		if _, err := cloudburst.ParseToken(text); !errors.Is(err, cloudburst.ErrBadArgument) {
			t.Errorf("the token %s: %v", text, err)
		}
	}
}
