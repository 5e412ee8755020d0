// Package runtimetest is what every runtime has to do, as a test: Run. It also has
// a State and Functions in memory for tests of what runs functions.
package runtimetest

import (
	"context"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A Suite is a runtime under test. A test of a runtime is
//
//	func TestRuntime(t *testing.T) {
//		rt := wasm.New(wasm.Config{})
//		runtimetest.Run(t, runtimetest.Suite{
//			Load: func(t *testing.T, program string, p runtime.Program) (runtime.Loaded, error) {
//				t.Helper()
//				p.Path = filepath.Join(modules, program+".wasm")
//				return rt.Load(t.Context(), p)
//			},
//		})
//	}
//
// The programs are written for each runtime, in what language it runs. Arguments
// and results are JSON but where it says bytes, which are of type
// application/octet-stream (and no UTF-8). Those that misbehave do so if their
// argument is true, and else return "fine".
//
//	name      argument       does, and returns
//	echo      any            returns its argument; bytes as bytes
//	add       [a, b]         returns a+b
//	bytes     bytes          returns them in reverse
//	run       none           returns the id of its run
//	state     key            of the key in its own namespace: gets it, puts {"n":1}, gets it, deletes
//	                         it, gets it, puts "last", gets it, and all its versions; puts "there" to
//	                         the key in namespace "other". Returns an array of what each get brought,
//	                         null for nothing, and the array of versions: [null,{"n":1},null,"last",["last"]]
//	counter   [key, delta]   adds to a counter, returns its value
//	set       [key, [e, …]]  adds the elements to a set; adds them to the orset of key+"-or" and then
//	                         removes the first of them from that. Returns the elements of both: [[…],[…]]
//	max       [key, v]       raises a max to v, lowers the min of key+"-min" to v, returns both: [max, min]
//	zset      [key, m, n]    of an ordered set: m gets the score 2, n 1, "gone" 3, and "gone" is removed.
//	                         Returns the members in order
//	map       key            of a map: puts 1 to field a, counts 2 in field n, adds "e" to the set s of the map
//	                         in field in, deletes a's value. Returns the names of fields, n, and the set: [[…],n,[…]]
//	priority  [key, n, v]    offers v with the number n, returns [number, value] of the best
//	gcounter  [key, n]       counts n up, returns the count
//	call      [name, arg]    calls a function with arg, returns its result
//	once      [name, a, id]  starts a function with a twice as the run id, and returns [run, run, result]
//	future    [name, a, b]   starts a function with a and with b, then awaits both, returns [result, result]
//	mail      [to, v]        sends v to the execution to, then waits for a message; returns [own id, sender, message]
//	fail      message        fails with the message, in a function of its own called explode
//	refuse    message        fails for good with the message
//	args      none           returns its command line but for the name
//	log       word           prints word+"-1" and word+"-2", a line each, returns null
//	remember  none           returns how often it was called before, by what it keeps in memory
//	sleep     milliseconds   sleeps, returns "fine"
//	loop      true           never ends, and never yields
//	memory    true           takes memory without end
//	garbage   true           writes a mebibyte that means nothing where its output goes
//	crash     true           exits in the middle, or worse
type Suite struct {
	// Load loads one of the programs. What p says of limits is to be kept; where
	// the code is, and its entry, is for Load to add.
	Load func(t *testing.T, program string, p runtime.Program) (runtime.Loaded, error)

	// What the runtime can't do, each with the reason; empty if it can.
	NoStop   string // can't stop a call that doesn't yield: "loop", and Close during a call
	NoMemory string // can't bound memory: "memory"
	NoCrash  string // can't outlive "crash" and "garbage"
	NoGuest  string // doesn't speak to its host as guests do: from "zset" to "gcounter", "once", "refuse", "args"
	// Remembers says why a call may find what an earlier one left in memory;
	// empty if none ever does.
	Remembers string

	// Left says what is left once all is closed, beside goroutines, which Run
	// counts: processes, files. It is asked again until it returns nil, for a
	// while. It may be nil.
	Left func() error
}

// within bounds what can't take long on a machine that is busy with other tests.
const within = 2 * time.Minute

// Run tests a runtime.
func Run(t *testing.T, s Suite) {
	t.Helper()
	before := goroutines()
	t.Run("values", s.values)
	t.Run("state", s.state)
	t.Run("lattices", s.lattices)
	t.Run("functions", s.functions)
	t.Run("nested", s.nested)
	t.Run("mail", s.mail)
	t.Run("errors", s.errors)
	t.Run("guests", s.guests)
	t.Run("log", s.log)
	t.Run("many", s.many)
	t.Run("memory kept", s.remember)
	t.Run("time", s.time)
	t.Run("misbehaving", s.misbehaving)
	t.Run("close", s.close)
	noneLeft(t, before, s.Left)
}

// load loads a program that is closed with the test.
func (s Suite) load(t *testing.T, program string, p runtime.Program) runtime.Loaded {
	t.Helper()
	p.Function = program
	p.Version = 1
	f, err := s.Load(t, program, p)
	if err != nil {
		t.Fatalf("load %s: %v", program, err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close %s: %v", program, err)
		}
	})
	return f
}

// NewCall returns a call with empty state and nothing to call.
func NewCall(function, args string) *runtime.Call {
	return &runtime.Call{
		Run: "run-1", Function: function, Attempt: 1, Args: wire.Value{Body: []byte(args)},
		Namespace: "default", State: NewState(), Functions: NewFunctions(nil), Mail: NewPost().Mail("run-1"),
	}
}

// invoke runs a call, which must not take long.
func invoke(t *testing.T, f runtime.Function, call *runtime.Call) (wire.Value, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return f.Invoke(ctx, call)
}

// returns runs a call and compares the JSON it returns with want.
func returns(t *testing.T, f runtime.Function, call *runtime.Call, want string) {
	t.Helper()
	v, err := invoke(t, f, call)
	if err != nil {
		t.Fatalf("%s(%.100s): %v", call.Function, call.Args.Body, err)
	}
	if !v.IsJSON() || !sameJSON(string(v.Body), want) {
		t.Fatalf("%s(%.100s): got %.200q of type %q, want %.200s", call.Function, call.Args.Body, v.Body, v.Type, want)
	}
}

// fine has a program that may misbehave run as it should.
func fine(t *testing.T, f runtime.Function, program string) {
	t.Helper()
	returns(t, f, NewCall(program, "false"), `"fine"`)
}
