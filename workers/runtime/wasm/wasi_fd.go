package wasm

import (
	"time"

	"github.com/tetratelabs/wazero/api"
)

const (
	stdin = iota
	stdout
	stderr
	descriptors
)

const (
	// maxVectors is how many buffers one call may read into or write from; the
	// customary limit of POSIX systems.
	maxVectors = 1024
	// maxTransfer is how many bytes one call reads or writes. Guests come again for
	// the rest, and between, their time may be over.
	maxTransfer = 1 << 20
)

// open says whether the guest has a file of that number.
func (x *execution) open(fd uint64) bool { return fd < descriptors && !x.closed[fd] }

func (x *execution) fdClose(_ api.Memory, a []uint64) errno {
	if !x.open(a[0]) {
		return errBadf
	}
	x.asked |= askedCall // the next one has it open
	x.closed[a[0]] = true
	return errSuccess
}

// fdSync is for all that has no effect here.
func (x *execution) fdSync(_ api.Memory, a []uint64) errno {
	if !x.open(a[0]) {
		return errBadf
	}
	return errSuccess
}

// fdFdstatGet tells what may be done to a file. All three look like pipes, which
// are of no type of their own in WASI.
func (x *execution) fdFdstatGet(m api.Memory, a []uint64) errno {
	if !x.open(a[0]) {
		return errBadf
	}
	b, ok := m.Read(uint32(a[1]), 24) //nolint:gosec // that is the ABI
	if !ok {
		return errFault
	}
	clear(b)
	const mayRead, mayWrite, mayPoll = 1 << 1, 1 << 6, 1 << 27
	rights := uint64(mayWrite | mayPoll)
	if a[0] == stdin {
		rights = mayRead | mayPoll
	}
	le.PutUint64(b[8:], rights)
	return errSuccess
}

func (x *execution) fdFilestatGet(m api.Memory, a []uint64) errno {
	if !x.open(a[0]) {
		return errBadf
	}
	b, ok := m.Read(uint32(a[1]), 64) //nolint:gosec // that is the ABI
	if !ok {
		return errFault
	}
	clear(b)
	le.PutUint64(b[24:], 1) // links
	return errSuccess
}

// transfer calls do with each buffer of a list, until it has done less than was
// asked of it, and writes how many bytes were done in all.
func (x *execution) transfer(m api.Memory, list, n, total uint64, do func(b []byte) int) errno {
	if n > maxVectors {
		return errInval
	}
	all, ok := m.Read(uint32(list), uint32(n)*8) //nolint:gosec // that is the ABI
	if !ok {
		return errFault
	}
	done := 0
	for ; len(all) > 0; all = all[8:] {
		b, ok := m.Read(le.Uint32(all), le.Uint32(all[4:]))
		if !ok {
			return errFault
		}
		b = b[:min(len(b), maxTransfer-done)]
		got := do(b)
		if done += got; got < len(b) || done == maxTransfer {
			break
		}
	}
	x.charge(int64(done) / fuelPerBytes)
	return put32(m, total, done)
}

func (x *execution) fdRead(m api.Memory, a []uint64) errno {
	if a[0] != stdin || !x.open(a[0]) {
		return errBadf
	}
	x.need("standard input")
	return x.transfer(m, a[1], a[2], a[3], func(b []byte) int {
		n := copy(b, x.in)
		x.in = x.in[n:]
		return n
	})
}

func (x *execution) fdWrite(m api.Memory, a []uint64) errno {
	if a[0] == stdin || !x.open(a[0]) {
		return errBadf
	}
	x.asked |= askedCall
	return x.transfer(m, a[1], a[2], a[3], func(b []byte) int {
		if a[0] == stdout {
			x.print(b)
		} else {
			x.log.write(b)
		}
		return len(b)
	})
}

// What a guest can wait for.
const (
	eventClock = iota
	eventRead
	eventWrite
)

const (
	subscriptionSize = 48
	eventSize        = 32
	maxSubscriptions = 1024
)

// pollOneoff waits for the first of several events. The files are always ready, so
// that it sleeps only if there are clocks alone to wait for.
func (x *execution) pollOneoff(m api.Memory, a []uint64) errno {
	n := uint32(a[2]) //nolint:gosec // that is the ABI
	if n == 0 || n > maxSubscriptions {
		return errInval
	}
	in, ok := m.Read(uint32(a[0]), n*subscriptionSize) //nolint:gosec // that is the ABI
	if !ok {
		return errFault
	}
	events, ok := m.Read(uint32(a[1]), n*eventSize) //nolint:gosec // that is the ABI
	if !ok {
		return errFault
	}
	left, files := make([]time.Duration, n), false
	wait := time.Duration(-1)
	for i := range left {
		s := in[i*subscriptionSize:]
		switch s[8] {
		case eventClock:
			until, err := x.remaining(s)
			if err != errSuccess {
				return err
			}
			if left[i] = until; wait < 0 || until < wait {
				wait = until
			}
		case eventRead, eventWrite:
			files = true
		default:
			return errInval
		}
	}
	if files {
		wait = 0
	}
	x.sleep(wait)
	happened := 0
	for i := range left {
		if left[i] <= wait { // that of a file is 0
			x.event(events[happened*eventSize:], in[i*subscriptionSize:])
			happened++
		}
	}
	return put32(m, a[3], happened)
}

// remaining returns how long it is to the time of a clock's subscription.
func (x *execution) remaining(s []byte) (time.Duration, errno) {
	const absolute = 1
	clock, at, flags := le.Uint32(s[16:]), le.Uint64(s[24:]), le.Uint16(s[40:])
	now, ok := x.now(clock)
	if !ok || flags > absolute {
		return 0, errInval
	}
	d := int64(min(at, 1<<63-1)) //nolint:gosec // bounded here
	if flags == absolute {
		d = max(0, d-now)
	}
	return time.Duration(d), errSuccess
}

// event writes that something happened.
func (x *execution) event(e, s []byte) {
	clear(e[:eventSize])
	copy(e, s[:8]) // the guest's own mark
	e[10] = s[8]
	if s[8] == eventClock {
		return
	}
	fd := le.Uint32(s[16:])
	switch {
	case !x.open(uint64(fd)):
		le.PutUint16(e[8:], uint16(errBadf))
	case fd == stdin:
		le.PutUint64(e[16:], uint64(len(x.in)))
	default:
		le.PutUint64(e[16:], 1<<16)
	}
}

// sleep returns after d, and ends the guest if its time is over before.
func (x *execution) sleep(d time.Duration) {
	x.check()
	if d <= 0 {
		return
	}
	x.pass()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.Done():
		panic(errEnded)
	}
}
