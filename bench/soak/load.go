package soak

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst"
)

// soakGraph has a fan-out and a join.
var soakGraph = &cloudburst.Graph{
	Name:  "soak-fan",
	Nodes: []cloudburst.Node{{Name: "one", Function: "soak-count"}, {Name: "two", Function: "soak-put"}, {Name: "three", Function: "soak-count"}, {Name: "join", Function: "soak-join"}},
	Edges: []cloudburst.Edge{{From: "one", To: "two"}, {From: "one", To: "three"}, {From: "two", To: "join", Arg: "0"}, {From: "three", To: "join", Arg: "1"}},
}

// soakPatience is how long a function waits for its message.
const soakPatience = time.Minute

// soakKeys is how many keys each kind of load goes round.
const soakKeys = 20

// A kind of load is one operation, the n-th. A rare one comes so many times less often.
type kind struct {
	do   func(ctx context.Context, c *cloudburst.Client, url string, n int) error
	rare int
}

// soakLoad is what a soak does all the time, by kind.
var soakLoad = map[string]kind{
	"call":                   {do: soakCall("soak-count")},
	"call, level repeatable": {do: soakCall("soak-put", cloudburst.WithLevel(cloudburst.Repeatable))},
	"call, level causal":     {do: soakCall("soak-causal", cloudburst.WithLevel(cloudburst.Causal))},
	"call in a call":         {do: soakCall("soak-outer")},
	"transaction":            {do: soakCall("soak-transaction")},
	"DAG":                    {do: soakCall("soak-fan")},
	"set":                    {do: soakCall("soak-set")},
	"ranking":                {do: soakCall("soak-ranking")},
	"short-lived key":        {do: soakCall("soak-temporary")},
	"message":                {do: soakMessage},
	"client":                 {do: soakClient, rare: 10},
}

func soakCall(name string, opts ...cloudburst.CallOption) func(context.Context, *cloudburst.Client, string, int) error {
	return func(ctx context.Context, c *cloudburst.Client, _ string, n int) error {
		_, err := cloudburst.Call[int](ctx, c.With(opts...), name, n)
		return err
	}
}

// soakMessage has a function wait for a message that comes from outside.
func soakMessage(ctx context.Context, c *cloudburst.Client, _ string, n int) error {
	run := cloudburst.RunID(fmt.Sprintf("soak-message-%d", n))
	waits, err := cloudburst.Go[int](ctx, c.With(cloudburst.WithRunID(run)), "soak-receive", n)
	if err != nil {
		return err
	}
	defer waits.Close()
	if err := c.Send(ctx, string(run), n); err != nil {
		return err
	}
	_, err = waits.Wait(ctx)
	return err
}

// soakClient is a program that starts, writes, and ends without a word, as a command does.
func soakClient(ctx context.Context, _ *cloudburst.Client, url string, n int) error {
	c, err := cloudburst.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Broker().Close()
	s := c.State()
	return errors.Join(s.Counter("soak-visits").Add(ctx, 1), s.ORSet("soak-guests").Add(ctx, n%10), s.ORSet("soak-guests").Remove(ctx, n%10))
}

// worker serves the functions of the load until ctx ends.
func (s *soak) worker(ctx context.Context, parts *sync.WaitGroup) error {
	c, err := cloudburst.Connect(ctx, s.server.URL())
	if err != nil {
		return err
	}
	w := cloudburst.NewWorker(c, cloudburst.CacheBytes(4<<20))
	soakFunctions(w)
	ended := make(chan error, 1)
	parts.Go(func() {
		defer c.Close()
		ended <- w.Serve(ctx)
	})
	select {
	case <-w.Ready():
		return nil
	case err := <-ended:
		return err
	}
}

func soakFunctions(w *cloudburst.Worker) {
	handle := func(name string, do func(ctx context.Context, s *cloudburst.Session, n int) error, opts ...cloudburst.FunctionOption) {
		cloudburst.Handle(w, name, func(ctx context.Context, s *cloudburst.Session, n int) (int, error) { return n, do(ctx, s, n) }, opts...)
	}
	handle("soak-count", func(ctx context.Context, s *cloudburst.Session, _ int) error {
		return s.Counter("soak-count").Add(ctx, 1)
	})
	handle("soak-put", func(ctx context.Context, s *cloudburst.Session, n int) error {
		return s.Put(ctx, fmt.Sprintf("soak-put-%d", n%soakKeys), n)
	})
	handle("soak-causal", func(ctx context.Context, s *cloudburst.Session, n int) error {
		return s.Put(ctx, fmt.Sprintf("soak-causal-%d", n%soakKeys), n)
	})
	cloudburst.Handle(w, "soak-join", func(ctx context.Context, s *cloudburst.Session, l []int) (int, error) {
		return len(l), s.Put(ctx, "soak-join", len(l))
	})
	handle("soak-outer", func(ctx context.Context, s *cloudburst.Session, n int) error {
		_, err := cloudburst.Call[int](ctx, s.Client(), "soak-put", n)
		return err
	})
	handle("soak-transaction", func(ctx context.Context, s *cloudburst.Session, n int) error {
		return s.Put(ctx, "soak-transaction", n)
	}, cloudburst.Transactional())
	handle("soak-set", func(ctx context.Context, s *cloudburst.Session, n int) error {
		set := s.ORSet("soak-set")
		return errors.Join(set.Add(ctx, n%50), set.Remove(ctx, (n+25)%50))
	})
	handle("soak-ranking", func(ctx context.Context, s *cloudburst.Session, n int) error {
		ranking := s.OrderedSet("soak-ranking")
		return errors.Join(ranking.Put(ctx, fmt.Sprint(n%50), float64(n)), ranking.Remove(ctx, fmt.Sprint((n+25)%50)))
	})
	handle("soak-temporary", func(ctx context.Context, s *cloudburst.Session, n int) error {
		// A deleted key leaves a mark, which stays: the keys come again.
		return errors.Join(s.Put(ctx, fmt.Sprintf("soak-temporary-%d", n%soakKeys), n), s.Delete(ctx, fmt.Sprintf("soak-temporary-%d", (n+soakKeys/2)%soakKeys)))
	})
	handle("soak-receive", func(ctx context.Context, s *cloudburst.Session, _ int) error {
		_, ok, err := s.Recv(ctx, soakPatience)
		if err == nil && !ok {
			err = errors.New("no message came")
		}
		return err
	})
}
