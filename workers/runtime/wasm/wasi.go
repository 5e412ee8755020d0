package wasm

import (
	"crypto/rand"
	"encoding/binary"
	goruntime "runtime"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// WASI preview 1 is written anew here, rather than taken from wazero, because
// there has to be nothing of a file system in it, everything must end with the
// call, and an instance has to outlive the exit of its guest.

type errno uint64

const (
	errSuccess errno = 0
	errAgain   errno = 6
	errBadf    errno = 8
	errFault   errno = 21
	errInval   errno = 28
	errNosys   errno = 52
	errNotsup  errno = 58
	errSpipe   errno = 70
)

// wasiFunctions are all of WASI preview 1. A letter stands for a parameter: i is
// an i32, I an i64.
func wasiFunctions() map[string]hostFunction {
	all := map[string]hostFunction{
		"proc_exit": {[]api.ValueType{i32}, nil, func(_ *execution, _ api.Module, stack []uint64) {
			panic(sys.NewExitError(uint32(stack[0]))) //nolint:gosec // that is the ABI
		}},
	}
	for _, w := range []struct {
		name, params string
		call         func(x *execution, m api.Memory, a []uint64) errno
	}{
		{"args_get", "ii", (*execution).argsGet},
		{"args_sizes_get", "ii", (*execution).argsSizesGet},
		{"environ_get", "ii", answer(errSuccess)},
		{"environ_sizes_get", "ii", environSizesGet},
		{"clock_res_get", "ii", (*execution).clockResGet},
		{"clock_time_get", "iIi", (*execution).clockTimeGet},
		{"fd_advise", "iIIi", answer(errSpipe)},
		{"fd_allocate", "iII", answer(errNotsup)},
		{"fd_close", "i", (*execution).fdClose},
		{"fd_datasync", "i", (*execution).fdSync},
		{"fd_fdstat_get", "ii", (*execution).fdFdstatGet},
		{"fd_fdstat_set_flags", "ii", (*execution).fdSync},
		{"fd_fdstat_set_rights", "iII", (*execution).fdSync},
		{"fd_filestat_get", "ii", (*execution).fdFilestatGet},
		{"fd_filestat_set_size", "iI", answer(errInval)},
		{"fd_filestat_set_times", "iIIi", answer(errInval)},
		{"fd_pread", "iiiIi", answer(errSpipe)},
		{"fd_prestat_dir_name", "iii", answer(errBadf)},
		{"fd_prestat_get", "ii", answer(errBadf)},
		{"fd_pwrite", "iiiIi", answer(errSpipe)},
		{"fd_read", "iiii", (*execution).fdRead},
		{"fd_readdir", "iiiIi", answer(errBadf)},
		{"fd_renumber", "ii", answer(errNotsup)},
		{"fd_seek", "iIii", answer(errSpipe)},
		{"fd_sync", "i", (*execution).fdSync},
		{"fd_tell", "ii", answer(errSpipe)},
		{"fd_write", "iiii", (*execution).fdWrite},
		{"path_create_directory", "iii", answer(errBadf)},
		{"path_filestat_get", "iiiii", answer(errBadf)},
		{"path_filestat_set_times", "iiiiIIi", answer(errBadf)},
		{"path_link", "iiiiiii", answer(errBadf)},
		{"path_open", "iiiiiIIii", answer(errBadf)},
		{"path_readlink", "iiiiii", answer(errBadf)},
		{"path_remove_directory", "iii", answer(errBadf)},
		{"path_rename", "iiiiii", answer(errBadf)},
		{"path_symlink", "iiiii", answer(errBadf)},
		{"path_unlink_file", "iii", answer(errBadf)},
		{"poll_oneoff", "iiii", (*execution).pollOneoff},
		{"proc_raise", "i", answer(errNosys)},
		{"random_get", "ii", (*execution).randomGet},
		{"sched_yield", "", (*execution).schedYield},
		{"sock_accept", "iii", answer(errBadf)},
		{"sock_recv", "iiiiii", answer(errBadf)},
		{"sock_send", "iiiii", answer(errBadf)},
		{"sock_shutdown", "ii", answer(errBadf)},
	} {
		params := make([]api.ValueType, len(w.params))
		for i, letter := range w.params {
			if params[i] = i32; letter == 'I' {
				params[i] = i64
			}
		}
		all[w.name] = hostFunction{params, []api.ValueType{i32}, func(x *execution, mod api.Module, stack []uint64) {
			x.charge(fuelSystem)
			for i, p := range params { // the upper half of an i32 is anything
				if p == i32 {
					stack[i] &= 1<<32 - 1
				}
			}
			stack[0] = uint64(w.call(x, mod.Memory(), stack))
		}}
	}
	return all
}

// answer is what has nothing to do here.
func answer(e errno) func(*execution, api.Memory, []uint64) errno {
	return func(*execution, api.Memory, []uint64) errno { return e }
}

// put32 writes a number to the guest's memory.
func put32(m api.Memory, at uint64, v int) errno {
	if !m.WriteUint32Le(uint32(at), uint32(v)) { //nolint:gosec // that is the ABI
		return errFault
	}
	return errSuccess
}

func put64(m api.Memory, at uint64, v int64) errno {
	if !m.WriteUint64Le(uint32(at), uint64(v)) { //nolint:gosec // that is the ABI
		return errFault
	}
	return errSuccess
}

// argsSizesGet says how many arguments there are, and how long they are with their ends: the
// function's name, and what it was deployed with.
func (x *execution) argsSizesGet(m api.Memory, a []uint64) errno {
	all := 0
	for _, arg := range x.f.args {
		all += len(arg) + 1
	}
	return max(put32(m, a[0], len(x.f.args)), put32(m, a[1], all))
}

func (x *execution) argsGet(m api.Memory, a []uint64) errno {
	pointers, texts := a[0], a[1]
	for _, arg := range x.f.args {
		if !m.WriteString(uint32(texts), arg+"\x00") { //nolint:gosec // that is the ABI
			return errFault
		}
		if e := put32(m, pointers, int(uint32(texts))); e != errSuccess { //nolint:gosec // that is the ABI
			return e
		}
		pointers, texts = pointers+4, texts+uint64(len(arg))+1
	}
	return errSuccess
}

func environSizesGet(_ *execution, m api.Memory, a []uint64) errno {
	return max(put32(m, a[0], 0), put32(m, a[1], 0))
}

// The clocks. Those of the processor's time tell the time since the worker began,
// as the monotonic one does: what a guest measures with them is differences.
const (
	clockReal = iota
	clockMonotonic
	clockProcess
	clockThread
)

// began is where the monotonic clock begins, or a little before: some guests take
// a 0 for a clock that there isn't.
var began = time.Now().Add(-time.Hour)

func (x *execution) clockResGet(m api.Memory, a []uint64) errno {
	if a[0] > clockThread {
		return errInval
	}
	return put64(m, a[1], int64(x.f.runtime.cfg.Clock))
}

func (x *execution) clockTimeGet(m api.Memory, a []uint64) errno {
	x.asked |= askedChance
	now, ok := x.now(uint32(a[0])) //nolint:gosec // that is the ABI
	if !ok {
		return errInval
	}
	return put64(m, a[2], now)
}

// now returns the time in nanoseconds, at the precision that guests get.
func (x *execution) now(clock uint32) (int64, bool) {
	var now int64
	switch clock {
	case clockReal:
		now = time.Now().UnixNano()
	case clockMonotonic, clockProcess, clockThread:
		now = int64(time.Since(began))
	default:
		return 0, false
	}
	return now - now%int64(x.f.runtime.cfg.Clock), true
}

func (x *execution) randomGet(m api.Memory, a []uint64) errno {
	x.asked |= askedChance
	b, ok := m.Read(uint32(a[0]), uint32(a[1])) //nolint:gosec // that is the ABI
	if !ok {
		return errFault
	}
	x.charge(int64(len(b)))
	const most = 256 << 10 // under a millisecond
	for len(b) > 0 {
		n := min(len(b), most)
		_, _ = rand.Read(b[:n]) // it never fails
		b = b[n:]
		x.check()
	}
	return errSuccess
}

func (x *execution) schedYield(api.Memory, []uint64) errno {
	x.check()
	goruntime.Gosched()
	return errSuccess
}

var le = binary.LittleEndian
