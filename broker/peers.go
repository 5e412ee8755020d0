package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Workers ask each other for versions that a run has read:
//
//	cb.cache.<worker>.find   request: a pinned version
//	cb.cache.all.release     a run has ended
const (
	peerFind    = ".find"
	peerRelease = "all.release"

	// peerWait is how long a worker may take to answer before it counts as gone. It
	// answers from memory; the run begins again, which costs about as long.
	peerWait = 2 * time.Second
	// findAtMost bounds how many large versions a worker uploads at once.
	findAtMost = 8
)

// pinned is what find asks for, and release about.
type pinnedVersion struct {
	Run       string `json:"run"`
	Namespace string `json:"ns,omitempty"`
	Key       string `json:"key,omitempty"`
	ID        string `json:"id,omitempty"`
}

// ServePins answers other workers from find until ctx ends, and tells release
// which runs have ended. Both may be called concurrently and must not block; find
// returns a lattice that nobody changes any more.
func (b *Broker) ServePins(ctx context.Context, worker string, find func(run, ns, key, id string) (kvlattice.Lattice, bool), release func(run string)) error {
	slots := make(chan struct{}, findAtMost)
	over, err := b.nc.Subscribe(subjectCache+peerRelease, func(msg *nats.Msg) {
		var what pinnedVersion
		if json.Unmarshal(msg.Data, &what) == nil { // else it isn't ours
			release(what.Run)
		}
	})
	if err != nil {
		return apiError("serve versions", worker, err)
	}
	defer b.unsubscribe(over)
	sub, err := b.nc.Subscribe(subjectCache+worker+peerFind, func(msg *nats.Msg) {
		var what pinnedVersion
		if json.Unmarshal(msg.Data, &what) != nil || msg.Reply == "" {
			return
		}
		l, ok := find(what.Run, what.Namespace, what.Key, what.ID)
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		go func() { // a large version is uploaded
			defer func() { <-slots }()
			if err := b.answerPin(ctx, msg, l, ok); err != nil {
				b.observe.replyFailed(what.Key, err)
			}
		}()
	})
	if err != nil {
		return apiError("serve versions", worker, err)
	}
	<-ctx.Done()
	b.unsubscribe(sub)
	for range findAtMost { // none is answered after we return
		slots <- struct{}{}
	}
	return nil
}

func (b *Broker) answerPin(ctx context.Context, to *nats.Msg, l kvlattice.Lattice, ok bool) error {
	answer := nats.NewMsg(to.Reply)
	switch {
	case !ok:
		answer.Header.Set(wire.HeaderStatus, "gone")
	case l == nil:
		answer.Header.Set(wire.HeaderStatus, "nothing")
	default:
		h, body := l.Encode()
		answer.Header = nats.Header(h)
		body, err := b.pack(ctx, answer.Header, body)
		if err != nil {
			return err
		}
		answer.Data = body
		answer.Header[wire.HeaderStatus] = []string{string(wire.StatusOK)}
	}
	return b.nc.PublishMsg(answer)
}

// Fetch returns a version of a key that a worker keeps for a run. It is gone if
// the worker is, or doesn't answer in time, or has forgotten it.
func (b *Broker) Fetch(ctx context.Context, worker, run, ns, key, id string) (l kvlattice.Lattice, gone bool, err error) {
	body, err := json.Marshal(pinnedVersion{run, ns, key, id})
	if err != nil {
		return nil, false, err
	}
	within, cancel := context.WithTimeout(ctx, peerWait)
	defer cancel()
	msg, err := b.nc.RequestWithContext(within, subjectCache+worker+peerFind, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nil, true, nil
	case err != nil:
		return nil, false, apiError("fetch version", key, err)
	}
	h := wire.Header(msg.Header)
	switch wire.First(h, wire.HeaderStatus) {
	case "nothing":
		return nil, false, nil
	case string(wire.StatusOK):
	default:
		return nil, true, nil
	}
	body = msg.Data
	if wire.First(h, wire.HeaderChunks) != "" {
		v, err := b.Unpack(ctx, wire.Value{Body: body, Type: manifestType})
		if err != nil {
			return nil, false, err
		}
		body = v.Body
	}
	l, err = kvlattice.Decode(kvlattice.Entry{Header: h, Body: body})
	return l, false, err
}

// Release tells all workers that a run has ended, and removes the mark that it lives. It
// doesn't wait, and a worker that doesn't hear it forgets the run's versions later.
func (b *Broker) Release(run, source string) {
	if stream, _, counts := strings.Cut(source, "@"); counts {
		b.notLive(liveSubject(strings.TrimPrefix(stream, callsPrefix), run))
	}
	body, err := json.Marshal(pinnedVersion{Run: run})
	if err == nil {
		err = b.nc.Publish(subjectCache+peerRelease, body)
	}
	if err != nil {
		b.observe.replyFailed(run, err)
	}
}

// Ended says whether a run is known to have ended: its result is stored.
func (b *Broker) Ended(ctx context.Context, run wire.RunID) bool {
	_, err := b.storedResult(ctx, run)
	return err == nil
}
