//go:build unix

package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// alone runs the test in a process of its own, and says whether this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	const env = "CLOUDBURST_TEST_ALONE"
	if os.Getenv(env) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// fillDisks makes the kernel refuse every write that makes a file longer, as on a disk
// that is full, for all of this process, until room is called. A test that uses it
// runs alone.
func fillDisks(t *testing.T) (room func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ) // the write fails, and that is all
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	room = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(room)
	return room
}

// While the disk is full everybody hears so. Once there is room the server goes on by
// itself, with all that was acknowledged.
func TestFullDiskIsRecoveredFrom(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, kept := range []bool{true, false} { // without a keeper it stays full: the fault is one
		t.Run(fmt.Sprintf("kept=%v", kept), func(t *testing.T) {
			p := newPlatform(t)
			if _, err := p.OpenBucket(t.Context(), "state"); err != nil {
				t.Fatal(err)
			}
			p.register("f")
			p.work(func(d *Delivery) { // what isn't stored is handed out again
				r := &wire.Result{Run: d.Call.Run, Name: d.Call.Name, Status: wire.StatusOK, Value: wire.Value{Body: []byte("25")}}
				d.Finish(context.Background(), r, func(error) {})
			})
			client, err := Connect(t.Context(), Config{Server: p.server, Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			if kept {
				p.start(func(ctx context.Context) error { return p.KeepStore(ctx, p.server) })
			}
			stored := 0
			write := func() error {
				_, err := client.put(t.Context(), &nats.Msg{Subject: bucketSubject("state", fmt.Sprint("k", stored)), Data: make([]byte, 4<<10)})
				if err == nil {
					stored++
				}
				return apiError("write", "k", err)
			}
			call := func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				_, err := client.Call(ctx, wire.Call{Name: "f"})
				return err
			}
			for range 100 {
				if err := write(); err != nil {
					t.Fatal(err)
				}
			}
			if err := call(); err != nil {
				t.Fatal(err)
			}
			room := fillDisks(t)
			if !kept {
				eventually(t, "a write fails", func() bool { return write() != nil })
				room()
				for range 3 {
					if err := write(); err == nil {
						t.Error("a store that had failed took a write: the server mends that itself by now")
					}
				}
				return
			}
			full := func(err error) bool {
				return wire.KindOf(err) == wire.KindBusy && strings.Contains(err.Error(), "the disk is full") && strings.Contains(err.Error(), p.server.cfg.Store)
			}
			eventually(t, "writers hear that the disk is full", func() bool { return full(write()) })
			eventually(t, "callers hear it", func() bool { return full(call()) })
			if client.Full() == nil {
				t.Error("it is told, and not known")
			}
			room()
			eventually(t, "writers go on", func() bool { return write() == nil })
			eventually(t, "callers go on", func() bool { return call() == nil })
			for i := range stored {
				msg, err := client.last(t.Context(), "KV_state", bucketSubject("state", fmt.Sprint("k", i)))
				if err != nil || msg == nil || len(msg.Data) != 4<<10 {
					t.Fatalf("k%d of %d was acknowledged and is %v, %v", i, stored, msg, err)
				}
			}
			eventually(t, "nobody hears of it any more", func() bool { return client.Full() == nil })
		})
	}
}

// A server that gave its streams up, as one does that can't write what the cluster
// agreed on, is started again too, but not before there is room.
func TestServerWithoutJetStreamIsStartedAgain(t *testing.T) {
	p := newPlatform(t)
	no := errors.New("no space left on device")
	k := &storeKeeper{b: p.Broker, s: p.server, room: func(string) error { return no }}
	k.look(t.Context(), time.Now())
	if k.told {
		t.Error("a store that is well was told to be full")
	}
	if err := p.server.ns.ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	k.look(t.Context(), now)
	if p.server.ns.JetStreamEnabled() {
		t.Error("it was started again without room")
	}
	eventually(t, "it is told", func() bool { return p.Full() != nil && strings.Contains(p.Full().Error(), no.Error()) })
	k.room = func(string) error { return nil }
	k.look(t.Context(), now.Add(time.Second))
	eventually(t, "it stores again", func() bool {
		_, err := p.put(t.Context(), &nats.Msg{Subject: bucketSubject(BucketDAGs, "d"), Data: []byte("x")})
		return err == nil
	})
	// One that doesn't stay up isn't started all the time.
	for i, wait := range []time.Duration{0, time.Second} {
		if err := p.server.ns.ShutdownJetStream(); err != nil {
			t.Fatal(err)
		}
		now = k.last.Add(wait)
		k.look(t.Context(), now)
		if up := p.server.ns.JetStreamEnabled(); up != (i == 1) {
			t.Errorf("%v after the last start it is up: %v", wait, up)
		}
	}
	p.server.Shutdown()
	k.look(t.Context(), now.Add(time.Hour))
	if p.server.ns != nil {
		t.Error("a server that was shut down was started again")
	}
}

// Of a NATS server elsewhere, that answers and stores nothing, it is said so, and that
// it must be restarted.
func TestServerElsewhereThatStoresNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	s := startServer(t, ServerConfig{Listen: "none"})
	b, log := started(t, s, Topology{})
	if err := b.SetUpPlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := &storeKeeper{b: b}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	k.probe(ctx)
	if k.told || b.Full() != nil {
		t.Errorf("a store that is well is said to be full: %v", b.Full())
	}
	room := fillDisks(t)
	eventually(t, "a probe fails", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return b.storesNothing(ctx) != nil
	})
	room()
	go k.probe(ctx)
	eventually(t, "it is told", func() bool { return b.Full() != nil })
	if err := b.Full(); wire.KindOf(err) != wire.KindBusy || !strings.Contains(err.Error(), "restart it") {
		t.Errorf("it says %v", err)
	}
	if err := b.fullForAll(); err != nil {
		t.Errorf("writes are refused that another server may take: %v", err)
	}
	findings, err := b.Examine(t.Context())
	if err != nil || findings[0].What != "store" || findings[0].Health != HealthBroken || !strings.Contains(findings[0].Detail, "restart it") {
		t.Errorf("an examination finds %+v, %v", findings[0], err)
	}
	cancel()
	eventually(t, "it is logged", func() bool { return strings.Contains(log.String(), "nothing can be stored") })
}
