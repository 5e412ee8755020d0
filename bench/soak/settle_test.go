package soak

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// The short form of a soak. It doesn't look at the clock: what some operations leave, three
// times as many leave too, once all is gone that is kept for a while.
func TestNothingStaysOfOperations(t *testing.T) {
	l := newLoad(t, keptFor(5*time.Second))
	l.operate(t, soakLoad, opsOfAKind)
	before := l.settled(t)
	l.operate(t, soakLoad, 3*opsOfAKind)
	var grown []string
	within(func() bool { grown = before.grown(l.left(t)); return len(grown) == 0 })
	t.Logf("heap: from %.1f to %.1f MiB", before.heap, measureHeap().own)
	if len(grown) > 0 {
		t.Errorf("after %d operations of each kind, and after three times as many more:\n%s", opsOfAKind, strings.Join(grown, "\n"))
	}
}

// The control: records of transactions that are kept for good are found.
func TestWhatStaysOfOperationsIsFound(t *testing.T) {
	sizes := keptFor(2 * time.Second)
	sizes.Runs = 24 * time.Hour
	l := newLoad(t, sizes)
	transactions := map[string]kind{"transaction": soakLoad["transaction"]}
	const few = 2 * fewSubjects
	l.operate(t, transactions, few)
	before := l.settled(t)
	l.operate(t, transactions, 3*few)
	now := l.settled(t) // the results of them are gone by then
	if grown := before.grown(now); len(grown) != 1 || !strings.HasPrefix(grown[0], "subjects of KV_state:") {
		t.Errorf("%d records of transactions stayed, and it was found that %q", 3*few, grown)
	}
}

// opsOfAKind is how many operations of each kind come before the first look: so many that
// each key of the load is there.
const opsOfAKind = 3 * soakKeys / 2

// A testLoad is the load of a soak, a bounded part at a time.
type testLoad struct {
	*soak
	client *cloudburst.Client
	done   int // operations of each kind
}

func newLoad(t *testing.T, sizes broker.Topology) *testLoad {
	t.Helper()
	server, err := start(t.Context(), t.TempDir(), sizes)
	if err != nil {
		t.Fatal(err)
	}
	l := &testLoad{soak: &soak{server: server, cfg: Config{Kept: sizes.Results}}}
	ctx, stop := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	t.Cleanup(func() {
		stop()
		parts.Wait()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	if l.client, err = l.serve(ctx, &parts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.client.Close)
	return l
}

// operate makes n operations of each kind, the kinds side by side.
func (l *testLoad) operate(t *testing.T, kinds map[string]kind, n int) {
	t.Helper()
	var all sync.WaitGroup
	failed := make(chan error, len(kinds))
	for name, one := range kinds {
		all.Go(func() {
			every := max(one.rare, 1)
			for i := l.done; i < l.done+n; i++ {
				if i%every != 0 {
					continue
				}
				if err := one.do(t.Context(), l.client, l.server.URL(), i); err != nil {
					failed <- fmt.Errorf("%s, the %dth: %w", name, i, err)
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
	l.done += n
}

// left is what operations have left.
type left struct {
	heap     float64
	subjects map[string]uint64
}

func (l *testLoad) left(t *testing.T) left {
	t.Helper()
	now := left{measureHeap().own, make(map[string]uint64)}
	list := l.client.Broker().JetStream().ListStreams(t.Context())
	for info := range list.Info() {
		now.subjects[info.Config.Name] = info.State.NumSubjects
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return now
}

// fewSubjects come and go, such as those of workers.
const fewSubjects = 10

// grown tells what is more than it was.
func (before left) grown(now left) (more []string) {
	if now.heap > before.heap+heapSlack/2 {
		more = append(more, fmt.Sprintf("heap: from %.1f to %.1f MiB", before.heap, now.heap))
	}
	for stream, n := range now.subjects {
		if n > before.subjects[stream]+fewSubjects {
			more = append(more, fmt.Sprintf("subjects of %s: from %d to %d", stream, before.subjects[stream], n))
		}
	}
	return more
}

// settled waits until all results are gone, and nothing goes any more. All is kept as long
// as results, or is removed within half as long afterwards.
func (l *testLoad) settled(t *testing.T) (now left) {
	t.Helper()
	var last left
	since := time.Now()
	calm := within(func() bool {
		now = l.left(t)
		if now.subjects["KV_cb_results"] > fewSubjects || len(last.grown(now))+len(now.grown(last)) > 0 {
			last, since = now, time.Now()
		}
		return time.Since(since) > l.cfg.Kept
	})
	if !calm {
		t.Fatalf("the platform doesn't come to rest: %v", now)
	}
	return now
}

// within asks for a minute and a half at most, and says whether it held.
func within(holds func() bool) bool {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(90 * time.Second); time.Now().Before(until); <-tick.C {
		if holds() {
			return true
		}
	}
	return false
}

func TestHeap(t *testing.T) {
	before := measureHeap()
	kept := make([][]byte, 0, 16<<10)
	for range cap(kept) {
		kept = append(kept, make([]byte, 1<<10))
	}
	after := measureHeap()
	if grew := after.own - before.own; grew < 15 || grew > 20 {
		t.Errorf("16 MiB in small pieces are measured as %.1f MiB", grew)
	}
	buffer := getMsgBlockBuf(8 << 20)
	with := measureHeap()
	if grew := with.buffers - after.buffers; grew < 7.5 || grew > 8.5 {
		t.Errorf("a buffer of 8 MiB is measured as %.1f MiB", grew)
	}
	if grew := with.own - after.own; grew > 1 || grew < -1 {
		t.Errorf("a buffer of 8 MiB makes the rest %.1f MiB more", grew)
	}
	kept[0], buffer[0] = buffer[:1], 1
}

// getMsgBlockBuf has the name of the server's function that allocates buffers.
//
//go:noinline
func getMsgBlockBuf(size int) []byte { return make([]byte, size) }
