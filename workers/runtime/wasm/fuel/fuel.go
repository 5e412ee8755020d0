// Package fuel has a WebAssembly module count what it executes, and ask its host
// for more when a slice of that is used up.
//
// Code that a WebAssembly compiler has made can't be interrupted: not by a
// deadline, not by Go's scheduler, not by its garbage collector, which all others
// then wait for. So the module is rewritten before it is compiled. It gets a
// counter, the fuel, and takes from it what it is about to execute:
//
//	a charge:  fuel -= cost
//	a look:    fuel -= cost; if fuel < 0 { refill() }
//
// The host's refill sets the counter anew, to zero or more, and so meters; or it
// panics, and so ends the guest. A trap ends the guest too, and leaves the counter
// as it was some time before.
//
// A unit of fuel is an instruction. Those that only give the code its form (block,
// end, drop and the like) are free; a call costs 4, one through a table 40, one
// that has the engine leave the guest (memory.grow, ref.func) 256; copying and
// filling costs 128 for up to 512 bytes, and one unit for each 4 bytes or table
// entry beyond. What is executed never costs less than that. It may cost more,
// because one charge covers several ways through a function, but by no more than 32
// units a charge.
//
// There is a look in every loop, at the beginning of every function that calls, and
// wherever more than 4,096 units would lie between two. After a call it is 256; so
// the only thing that goes on for longer without a look is the end of a deep
// recursion, by 256 units for each of its frames. A function of 32 units or less
// that neither loops nor calls has no fuel of its own: it is in the cost of its
// calls. One instruction that moves a lot of memory is done in parts of 256 KiB.
package fuel

const (
	// Module is the module that the function Refill is imported from.
	Module = "cloudburst_fuel"
	// Refill names the function () -> () that the module then imports. It is called
	// when the counter has gone below zero. It must not call the instance.
	Refill = "refill"
	// Global names the counter that the module then exports: a mutable i64, 0 in the
	// beginning, so that an instance first of all asks for a slice.
	Global = "cloudburst_fuel"
)

// Instrument returns the module with metering added. A module that can't be read,
// or that uses what isn't supported (threads, exceptions, garbage collection; see
// Features), is an error that names it, and the section and the offset. What Instrument returns for a module
// that isn't valid isn't valid either: the compiler refuses it. It is a tenth longer
// for a large program, and 25 times at the very most.
//
// Functions keep their names, which is what a guest's stack shows; those without
// are numbered from one higher. What debuggers read is dropped: it says where code
// was before.
func Instrument(code []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(*malformed)
			if !ok {
				panic(p)
			}
			out, err = nil, e
		}
	}()
	m := split(code)
	m.survey()
	p := &planner{m: m}
	return m.rewrite(p.plan), nil
}
