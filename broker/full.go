package broker

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A stream that a write to the disk failed for takes no other, and none of its callers
// gets an answer, until the server opens its store again: NATS keeps the first error,
// though there may be room again a second later. So a node looks after the store: while
// it can't be written it says so to everybody, on cb.platform.full, and once it can be
// it starts its server again in place.

const (
	storeEvery = 500 * time.Millisecond // how often a node looks, and tells
	fullFor    = 3 * storeEvery         // for how long it is believed
	// roomNeeded is how much must fit on the disk before the server is started again:
	// each stream that is written opens a block.
	roomNeeded = 16 << 20
	// probeEvery is how often a node asks a server elsewhere to store something, and
	// probeWithin how long that may take.
	probeEvery  = 5 * time.Second
	probeWithin = 3 * time.Second
	// restartMost is the longest wait between two restarts that didn't help.
	restartMost = time.Minute
)

// A fullStore is what is told of a server that stores nothing.
type fullStore struct {
	Server string `json:"server"`
	Why    string `json:"why"`
	Advice string `json:"advice"`
	Alone  bool   `json:"alone"` // nobody else can store anything either

	until time.Time
}

// hearFull takes in that a server stores nothing.
func (b *Broker) hearFull(msg *nats.Msg) {
	f := new(fullStore)
	err := json.Unmarshal(msg.Data, f)
	if err == nil && (f.Server == "" || f.Why == "") {
		err = &wire.Error{Op: "hear of a full disk", Kind: wire.KindInvalid, Msg: "it doesn't name a server and why"}
	}
	if err != nil {
		b.unreadable(msg, err)
		return
	}
	f.until = time.Now().Add(fullFor)
	b.full.Store(f)
}

// Full is an error of KindBusy while a server of the platform can't write its store,
// and says what to do; else nil.
func (b *Broker) Full() error {
	f := b.full.Load()
	if f == nil || time.Now().After(f.until) {
		return nil
	}
	return &wire.Error{Op: "store at server", Kind: wire.KindBusy, Name: f.Server, Msg: "the disk is full, or fails (" + f.Why + "): " + f.Advice}
}

// fullForAll is Full where no other server can store anything.
func (b *Broker) fullForAll() error {
	if f := b.full.Load(); f != nil && f.Alone {
		return b.Full()
	}
	return nil
}

// explain says of a message that got no acknowledgement why, if that is known.
func (b *Broker) explain(err error) error {
	if errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) {
		if full := b.Full(); full != nil {
			return full
		}
	}
	return err
}

// KeepStore looks after the store until ctx ends: that of the server, which it starts
// again once there is room, or with nil that of the NATS servers elsewhere.
func (b *Broker) KeepStore(ctx context.Context, s *Server) error {
	k := &storeKeeper{b: b, s: s, room: roomIn}
	every := storeEvery
	if s == nil {
		every = probeEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if s != nil {
				k.look(ctx, now)
			} else {
				k.probe(ctx)
			}
		}
	}
}

// A storeKeeper belongs to the goroutine of KeepStore.
type storeKeeper struct {
	b    *Broker
	s    *Server
	room func(dir string) error

	told  bool          // that the store can't be written
	last  time.Time     // when the server was last started again
	pause time.Duration // before the next time
}

// look tells of a store that can't be written, and opens it again once it can be.
func (k *storeKeeper) look(ctx context.Context, now time.Time) {
	why := k.s.storeError()
	if why == "" {
		if k.told && now.Sub(k.last) > restartMost {
			k.told, k.pause = false, 0
		}
		return
	}
	if !k.told {
		k.b.observe.storeFull(k.s.cfg.Store, why)
	}
	k.told = true
	room := k.room(k.s.cfg.Store)
	if room != nil {
		why = room.Error()
	}
	k.tell(fullStore{
		Server: k.s.cfg.Name, Why: why, Alone: k.s.cfg.Cluster == nil,
		Advice: "make room in " + k.s.cfg.Store + "; it goes on by itself within seconds",
	})
	if room != nil || now.Sub(k.last) < k.pause {
		return
	}
	k.pause, k.last = min(max(2*k.pause, time.Second), restartMost), now
	k.b.observe.storeOpens(k.s.cfg.Store)
	if err := k.s.restart(ctx); err != nil {
		k.b.observe.storeClosed(k.s.cfg.Store, err) // it is tried again
	}
}

// probe finds out whether a server elsewhere stores what it is sent.
func (k *storeKeeper) probe(ctx context.Context) {
	asked, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	err := k.b.storesNothing(asked)
	if err == nil || ctx.Err() != nil {
		k.told = false
		return
	}
	if !k.told {
		k.b.observe.storeFull(k.b.nc.ConnectedUrlRedacted(), err.Error())
	}
	k.told = true
	until := time.Now().Add(probeEvery)
	for time.Now().Before(until) && ctx.Err() == nil { // so that it is believed until the next probe
		k.tell(fullStore{Server: k.b.nc.ConnectedServerName(), Why: err.Error(), Advice: storeAdvice})
		select {
		case <-ctx.Done():
		case <-time.After(storeEvery):
		}
	}
}

const storeAdvice = "make room on the disk of the NATS server, and restart it: it stores nothing more until then"

// storesNothing is an error if the platform's servers answer and don't store.
func (b *Broker) storesNothing(ctx context.Context) error {
	msg := &nats.Msg{Subject: bucketSubject(BucketPlatform, "probe"), Data: []byte(time.Now().UTC().Format(time.RFC3339))}
	answer := make(chan error, 1)
	reply, id := b.mux.open(0, func(ack *nats.Msg) bool {
		_, _, err := parsePubAck(ack)
		answer <- err
		return false
	})
	defer b.mux.close(id)
	msg.Reply = reply
	if err := b.nc.PublishMsg(msg); err != nil {
		return nil // it can't be asked, which is another matter
	}
	select {
	case err := <-answer:
		var api *jetstream.APIError
		if errors.As(err, &api) && wire.KindOf(apiError("", "", err)) == wire.KindBusy {
			return err
		}
		return nil
	case <-ctx.Done():
	}
	// No acknowledgement. If its leader answers otherwise, it doesn't store.
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, _, err := b.leaderOf(again, bucketStream(BucketPlatform)); err != nil {
		return nil // it is away, or has no leader
	}
	return errors.New("it answers, and doesn't acknowledge what it is to store")
}

func (k *storeKeeper) tell(f fullStore) {
	body, err := json.Marshal(f)
	if err == nil {
		err = k.b.nc.Publish(subjectFull, body)
	}
	if err != nil {
		k.b.observe.eventLost(subjectFull, err)
	}
}

// roomIn is an error while a directory has no room for what a server needs.
func roomIn(dir string) (err error) {
	f, err := os.Create(filepath.Join(dir, "cloudburst.room")) //nolint:gosec // the store's own directory
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}()
	block := make([]byte, 1<<20)
	for range roomNeeded / len(block) {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return f.Sync()
}

// fullFlag is what a process knows of full stores.
type fullFlag = atomic.Pointer[fullStore]
