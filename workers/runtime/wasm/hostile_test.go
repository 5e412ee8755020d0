package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

var errTime = &wire.Error{Op: "run", Kind: wire.KindTimeout, Msg: "its time is up"}

func TestEnded(t *testing.T) {
	r := newRuntime(t, Config{})
	for _, entry := range []string{"loop", "tight", "sleeper", "pester", "spin_clock", "fill"} {
		t.Run(entry, func(t *testing.T) {
			f := load(t, r, entry)
			for range 3 {
				late(t, f)
			}
		})
	}
}

// late runs a call that doesn't end by itself, until its time is up.
func late(t *testing.T, f *function) {
	t.Helper()
	const limit = 50 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errTime)
	defer cancel()
	began := time.Now()
	_, err := f.Invoke(ctx, &runtime.Call{Function: "test"})
	if !errors.Is(err, errTime) {
		t.Errorf("got %v, want %v", err, errTime)
	}
	took := time.Since(began) - limit
	t.Logf("%v late", took)
	if took > time.Minute { // a few milliseconds, if the machine has nothing else to do
		t.Errorf("ended %v after its time was up", took)
	}
}

// A memory that can't grow is the guest's to deal with.
func TestMemoryLimit(t *testing.T) {
	r := newRuntime(t, Config{})
	for _, limit := range []int64{4 << 20, 0} {
		f := loadProgram(t, r, runtime.Program{Function: "test", Path: "testdata/guest.wasm", Entry: "hoard", Memory: limit})
		for range 3 {
			v, err := invoke(t, f, "")
			if limit == 0 {
				limit = 128 << 20
			}
			got, _ := strconv.ParseInt(string(v.Body), 10, 64)
			if most := limit / pageSize; err != nil || got > most || got < most-20 {
				t.Errorf("of %d pages the guest could allocate %d, %v", most, got, err)
			}
		}
	}
}

// What a guest writes to its log is cut, but its end is not lost to its error.
func TestChatter(t *testing.T) {
	r := newRuntime(t, Config{})
	f := load(t, r, "chatter")
	var log bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := f.Invoke(ctx, &runtime.Call{Function: "test", Log: &log}); err != nil {
		t.Fatal(err)
	}
	if n := log.Len(); n > 1<<20+200 || n < 1<<20-200 || !strings.HasSuffix(log.String(), "dropped: it is more than 1048576 bytes]\n") {
		t.Errorf("%d bytes of log, which ends %q", n, log.Bytes()[max(0, n-100):])
	}
}

// A guest that computes for long waits for others that do, and doesn't keep one
// that doesn't from running.
func TestTurns(t *testing.T) {
	r := newRuntime(t, Config{Busy: 1, Concurrency: 8})
	loop, quick := load(t, r, "loop"), load(t, r, "")
	ctx, cancel := context.WithCancelCause(t.Context())
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := loop.Invoke(ctx, &runtime.Call{Function: "test"}); !errors.Is(err, errTime) {
				t.Errorf("got %v, want %v", err, errTime)
			}
		})
	}
	for range 100 {
		if _, err := invoke(t, quick, "1"); err != nil {
			t.Fatal(err)
		}
	}
	cancel(errTime)
	group.Wait()
	if n := len(r.turns); n != 0 {
		t.Errorf("%d turns are still taken", n)
	}
}

// Tables are no part of the memory that is bounded, and have a bound of their own;
// so have references to functions.
func TestTables(t *testing.T) {
	r := newRuntime(t, Config{})
	grow := loadProgram(t, r, runtime.Program{Function: "test", Path: "testdata/tables.wasm", Entry: "grow"})
	if v, err := invoke(t, grow, ""); err != nil || string(v.Body) != "9" {
		t.Errorf("a table could grow to %s hundred thousand entries, %v; want 9", v.Body, err)
	}
	refer := loadProgram(t, r, runtime.Program{Function: "test", Path: "testdata/tables.wasm", Entry: "refer"})
	for range 2 {
		if _, err := invoke(t, refer, ""); wire.KindOf(err) != wire.KindPanic || !strings.Contains(err.Error(), "too many references") {
			t.Errorf("references without end: %v", err)
		}
	}
	_, err := boundTables([]byte("\x00asm\x01\x00\x00\x00\x04\x07\x01\x70\x00\xff\xff\xff\x7f"))
	if err == nil || !strings.Contains(err.Error(), "268435455 entries") {
		t.Errorf("a table of 268435455 entries: %v", err)
	}
}

// A long function without a loop, called by way of a table, is metered too.
func TestStraightLine(t *testing.T) {
	uleb := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) } //nolint:gosec // a length
	sized := func(b []byte) []byte { return append(uleb(len(b)), b...) }
	section := func(id byte, b []byte) []byte { return append([]byte{id}, sized(b)...) }
	long := sized(append(append([]byte{0}, bytes.Repeat([]byte{0x41, 0, 0x41, 0, 0x28, 2, 0, 0x36, 2, 0}, 20_000)...), 0x0b)) // i32.store(0, i32.load(0))
	forever := sized([]byte{0, 0x03, 0x40, 0x41, 0, 0x11, 0, 0, 0x0c, 0, 0x0b, 0x0b})                                         // loop: call_indirect 0; br
	code := slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{1, 0x60, 0, 0}), section(3, []byte{2, 0, 0}), section(4, []byte{1, 0x70, 0, 1}), section(5, []byte{1, 0, 1}),
		section(7, slices.Concat([]byte{1}, sized([]byte("handler")), []byte{0, 1})),
		section(9, []byte{1, 0, 0x41, 0, 0x0b, 1, 0}), section(10, slices.Concat([]byte{2}, long, forever)))
	path := filepath.Join(t.TempDir(), "image.wasm")
	if err := os.WriteFile(path, code, 0o600); err != nil {
		t.Fatal(err)
	}
	f := loadProgram(t, newRuntime(t, Config{}), runtime.Program{Function: "test", Path: path})
	late(t, f)
}
