package runtime

import (
	"context"
	"fmt"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Nest is what holds a place for a call while its function runs: a slot of the worker,
// or one of a program's instances.
//
// A function that waits for another call gives its places to that call, and takes them
// back when it goes on. Otherwise functions that wait would hold all places, and the
// calls that they wait for would never run.
type Nest interface {
	// Block gives up the place, runs wait, and returns wait's error once the place is
	// taken back. When ctx ends it doesn't wait for the place: the call is over.
	Block(ctx context.Context, wait func() error) error
}

// within is what a context knows of the call whose function it is for.
type within struct {
	depth int // of the call: in how many other runs it is
	nest  Nest
}

type withinKey struct{}

func withinOf(ctx context.Context) *within {
	in, _ := ctx.Value(withinKey{}).(*within)
	return in
}

// Within returns the context of a function that a call runs: depth is the call's. Nests
// of an outer context stay around the new one.
func Within(ctx context.Context, depth int, nest Nest) context.Context {
	if outer := withinOf(ctx); outer != nil {
		nest = nested{outer.nest, nest}
	}
	return context.WithValue(ctx, withinKey{}, &within{depth, nest})
}

// nested takes the outer place back first: a call that has an inner place never waits for
// an outer one.
type nested struct{ outer, inner Nest }

func (n nested) Block(ctx context.Context, wait func() error) error {
	return n.inner.Block(ctx, func() error { return n.outer.Block(ctx, wait) })
}

// Block runs wait, which waits for what other calls do: a result, a message, a signal.
// Under the context of a function the call gives up its places meanwhile.
func Block(ctx context.Context, wait func() error) error {
	if in := withinOf(ctx); in != nil {
		return in.nest.Block(ctx, wait)
	}
	return wait()
}

// Inside says whether ctx is of a function that a call runs.
func Inside(ctx context.Context) bool { return withinOf(ctx) != nil }

// Depth returns the depth of the call whose function ctx is for; 0 outside of functions.
func Depth(ctx context.Context) int {
	if in := withinOf(ctx); in != nil {
		return in.depth
	}
	return 0
}

// Nested returns the depth of a call that is made under ctx: 0 outside of functions.
// Beyond wire.MaxDepth it is an error of wire.KindPermanent.
func Nested(ctx context.Context, name string) (int, error) {
	in := withinOf(ctx)
	if in == nil {
		return 0, nil
	}
	if in.depth+1 >= wire.MaxDepth {
		return 0, &wire.Error{
			Op: "call", Name: name, Kind: wire.KindPermanent,
			Msg: fmt.Sprintf("it would be the %dth call inside of each other, and %d is the most; end the recursion earlier, or use a DAG", in.depth+2, wire.MaxDepth),
		}
	}
	return in.depth + 1, nil
}

// Admits says whether one more call of a depth may be held where held are, and most is the
// bound. Each depth has one place that the depths above it can't take. So the calls that
// others wait for always get through, however many calls wait.
func Admits(held, most, depth int) bool {
	return held < max(most-(wire.MaxDepth-1-min(depth, wire.MaxDepth-1)), 1)
}
