package native_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/native"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

const shared = "Go code runs in the worker's own process"

func TestRuntime(t *testing.T) {
	runtimetest.Run(t, runtimetest.Suite{
		Load: func(_ *testing.T, program string, _ runtime.Program) (runtime.Loaded, error) {
			f, ok := programs[program]
			if !ok {
				return nil, fmt.Errorf("no program %q", program)
			}
			return loaded{f}, nil
		},
		NoStop: shared, NoMemory: shared, NoCrash: shared, NoGuest: shared, Remembers: shared,
	})
}

// loaded is a function of the binary: there is nothing to let go of.
type loaded struct{ native.Func }

func (loaded) Close() error { return nil }

var programs = map[string]native.Func{
	"echo": func(_ context.Context, call *runtime.Call) (wire.Value, error) { return call.Args, nil },
	"add": func(_ context.Context, call *runtime.Call) (wire.Value, error) {
		var of [2]float64
		if err := call.Args.Decode(&of); err != nil {
			return wire.Value{}, err
		}
		return wire.JSON(of[0] + of[1])
	},
	"bytes": func(_ context.Context, call *runtime.Call) (wire.Value, error) {
		body := slices.Clone(call.Args.Body)
		slices.Reverse(body)
		return wire.Value{Body: body, Type: call.Args.Type}, nil
	},
	"run":     func(_ context.Context, call *runtime.Call) (wire.Value, error) { return wire.JSON(call.Run) },
	"state":   state,
	"counter": counter,
	"set":     set,
	"max":     extremes,
	"call": func(ctx context.Context, call *runtime.Call) (wire.Value, error) {
		return calls(ctx, call, func(results []json.RawMessage) any { return results[0] })
	},
	"future": func(ctx context.Context, call *runtime.Call) (wire.Value, error) {
		return calls(ctx, call, func(results []json.RawMessage) any { return results })
	},
	"mail": mail,
	"fail": func(_ context.Context, call *runtime.Call) (wire.Value, error) {
		explode(string(call.Args.Body))
		return wire.Value{}, nil
	},
	"log": func(_ context.Context, call *runtime.Call) (wire.Value, error) {
		word := strings.Trim(string(call.Args.Body), `"`)
		if call.Log != nil {
			fmt.Fprintf(call.Log, "%s-1\n%s-2\n", word, word)
		}
		return wire.JSON(nil)
	},
	"sleep": func(ctx context.Context, call *runtime.Call) (wire.Value, error) {
		var ms int
		if err := call.Args.Decode(&ms); err != nil {
			return wire.Value{}, err
		}
		select {
		case <-ctx.Done():
			return wire.Value{}, context.Cause(ctx)
		case <-time.After(time.Duration(ms) * time.Millisecond):
			if err := context.Cause(ctx); err != nil {
				return wire.Value{}, err
			}
			return wire.JSON("fine")
		}
	},
}

func explode(msg string) { panic(msg) }

func mail(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	var to string
	var v json.RawMessage
	if err := arguments(call, &to, &v); err != nil {
		return wire.Value{}, err
	}
	if err := call.Mail.Send(ctx, to, wire.Value{Body: v}); err != nil {
		return wire.Value{}, err
	}
	msg, err := call.Mail.Receive(ctx, time.Minute)
	if err != nil {
		return wire.Value{}, err
	}
	return wire.JSON([]any{call.Mail.ID(), msg.From, json.RawMessage(msg.Body)})
}

func state(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	var key string
	if err := call.Args.Decode(&key); err != nil {
		return wire.Value{}, err
	}
	var seen []any
	get := func() error {
		v, found, err := call.State.Get(ctx, call.Namespace, key)
		if found {
			seen = append(seen, json.RawMessage(v.Body))
		} else {
			seen = append(seen, nil)
		}
		return err
	}
	put := func(ns, body string) error { return call.State.Put(ctx, ns, key, wire.Value{Body: []byte(body)}) }
	err := errors.Join(
		get(), put(call.Namespace, `{"n":1}`), get(), call.State.Delete(ctx, call.Namespace, key), get(),
		put(call.Namespace, `"last"`), get(), put("other", `"there"`),
	)
	if err != nil {
		return wire.Value{}, err
	}
	versions, err := call.State.Versions(ctx, call.Namespace, key)
	if err != nil {
		return wire.Value{}, err
	}
	all := make([]json.RawMessage, len(versions))
	for i, v := range versions {
		all[i] = v.Body
	}
	return wire.JSON(append(seen, all))
}

// arguments takes an array of arguments apart.
func arguments(call *runtime.Call, first *string, second any) error {
	var args []json.RawMessage
	if err := call.Args.Decode(&args); err != nil {
		return err
	}
	return errors.Join(json.Unmarshal(args[0], first), json.Unmarshal(args[1], second))
}

func counter(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	var key string
	var delta int64
	if err := arguments(call, &key, &delta); err != nil {
		return wire.Value{}, err
	}
	if err := call.State.AddCounter(ctx, call.Namespace, key, delta); err != nil {
		return wire.Value{}, err
	}
	n, err := call.State.Counter(ctx, call.Namespace, key)
	if err != nil {
		return wire.Value{}, err
	}
	return wire.JSON(n)
}

func set(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	var key string
	var elements []json.RawMessage
	if err := arguments(call, &key, &elements); err != nil {
		return wire.Value{}, err
	}
	if err := call.State.AddSet(ctx, call.Namespace, key, elements...); err != nil {
		return wire.Value{}, err
	}
	added := kvlattice.NewORSet()
	for _, element := range elements {
		tag, _ := call.State.Tag()
		if err := added.Add(tag, element); err != nil {
			return wire.Value{}, err
		}
	}
	if err := call.State.Merge(ctx, call.Namespace, key+"-or", added); err != nil {
		return wire.Value{}, err
	}
	l, err := call.State.Read(ctx, call.Namespace, key+"-or")
	if err != nil {
		return wire.Value{}, err
	}
	left, ok := l.(*kvlattice.ORSet)
	if !ok {
		return wire.Value{}, fmt.Errorf("a %T is no set", l)
	}
	removal, _ := left.Removal(elements[0])
	left.Remove(elements[0])
	if err := call.State.Merge(ctx, call.Namespace, key+"-or", removal); err != nil {
		return wire.Value{}, err
	}
	all, err := call.State.Set(ctx, call.Namespace, key)
	if err != nil {
		return wire.Value{}, err
	}
	return wire.JSON([]any{all, slices.Collect(left.All())})
}

func extremes(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	var key string
	var v json.RawMessage
	if err := arguments(call, &key, &v); err != nil {
		return wire.Value{}, err
	}
	most, err := kvlattice.NewMax(v)
	if err != nil {
		return wire.Value{}, err
	}
	least, err := kvlattice.NewMin(v)
	if err != nil {
		return wire.Value{}, err
	}
	var both []json.RawMessage
	for at, l := range map[string]kvlattice.Lattice{key: most, key + "-min": least} {
		if err := call.State.Merge(ctx, call.Namespace, at, l); err != nil {
			return wire.Value{}, err
		}
	}
	for _, at := range []string{key, key + "-min"} {
		l, err := call.State.Read(ctx, call.Namespace, at)
		if err != nil {
			return wire.Value{}, err
		}
		both = append(both, l.Value().Body)
	}
	return wire.JSON(both)
}

// calls starts a function with each of the further arguments and awaits them all.
func calls(ctx context.Context, call *runtime.Call, result func([]json.RawMessage) any) (wire.Value, error) {
	var args []json.RawMessage
	if err := call.Args.Decode(&args); err != nil {
		return wire.Value{}, err
	}
	var name string
	if err := json.Unmarshal(args[0], &name); err != nil {
		return wire.Value{}, err
	}
	var runs []wire.RunID
	for _, arg := range args[1:] {
		run, err := call.Functions.Start(ctx, name, wire.Value{Body: arg}, "")
		if err != nil {
			return wire.Value{}, err
		}
		runs = append(runs, run)
	}
	var results []json.RawMessage
	for _, run := range runs {
		v, err := call.Functions.Await(ctx, run)
		if err != nil {
			return wire.Value{}, err
		}
		results = append(results, v.Body)
	}
	return wire.JSON(result(results))
}
