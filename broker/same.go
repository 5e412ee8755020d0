package broker

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A stream drops a call whose id it has, whatever else is in it, and acknowledges it as
// a duplicate. So who publishes one compares the two.

// anySequence stands for the sequence of a first call that wasn't told.
const anySequence = math.MaxUint64

// fingerprintOf is the wire.Fingerprint of a call's message as it is stored.
func fingerprintOf(name string, msg *nats.Msg) string {
	args := wire.Value{Body: msg.Data, Type: msg.Header.Get(wire.HeaderType)}
	if msg.Header.Get(wire.HeaderChunks) != "" {
		args.Type = manifestType + args.Type
	}
	return wire.Fingerprint(name, args)
}

// compare settles what a duplicate is: the same call, which is stored then, or another
// one, which is an error. A call that was purged before it ran is neither. The storage
// may not tell now: then it is found out later.
func (p *Pending) compare(ctx context.Context) error {
	seq := p.first.Load()
	if seq == 0 {
		return nil
	}
	first, err := p.b.fingerprint(ctx, p.Run, p.msg.Subject, seq)
	switch {
	case err != nil:
		return nil //nolint:nilerr // said above
	case conflicts(first, p.digest):
		return errConflict(p.Run, p.name, "")
	case first == "" && seq != anySequence && strings.HasPrefix(p.msg.Subject, subjectCall):
		// Nothing is left of a call that was purged: not even a claim or a result.
		p.first.Store(0)
		p.msg.Header[wire.HeaderRun] = []string{string(p.Run) + afterPurge + strconv.FormatUint(seq, 10)}
		p.msg.Header[wire.HeaderOf] = []string{string(p.Run)}
		return nil // again sends it
	}
	p.first.Store(0)
	p.markStored()
	return nil
}

// afterPurge, and the sequence of the call that was purged, follow a run's id in the id of
// the message that takes the place of that call. The stream knows the run's own id as that
// of a duplicate.
const afterPurge = "=after."

// replacesPurged says whether a message takes the place of a purged call of a run.
func replacesPurged(id, of wire.RunID) bool {
	return strings.HasPrefix(string(id), string(of)+afterPurge) && wire.CheckCallerID(of) == nil
}

// taken is an error of KindConflict if another call has the id of one that is about to be
// stored: one that waits for its time, or, since nobody may await the answer to this one
// (async), one that runs or has ended in any pool. The storage may not tell now; what it
// doesn't, and calls of the same moment, the worker finds out.
func (b *Broker) taken(ctx context.Context, call *wire.Call, digest string, async bool) error {
	if msg, err := b.newest(ctx, StreamTimers, timerSubject(&wire.Call{Run: call.Run})); err == nil && msg != nil {
		name, _ := parseCallSubject(msg.Header.Get(headerTo))
		if conflicts(fingerprintOf(name, msg), digest) {
			return errConflict(call.Run, call.Name, name)
		}
	}
	if !async {
		return nil
	}
	if _, r, err := b.end(ctx, call.Run); err == nil && conflicts(r.Digest, digest) {
		return errConflict(call.Run, call.Name, r.Name)
	}
	if has, found, err := b.claimOf(ctx, call.Run); err == nil && found && conflicts(has.Digest, digest) {
		return errConflict(call.Run, call.Name, "")
	}
	return nil
}

// fingerprint returns that of the first call of a run, which was stored under a
// sequence of the stream of subject; empty if nothing tells it any more.
func (b *Broker) fingerprint(ctx context.Context, run wire.RunID, subject string, seq uint64) (string, error) {
	msg, err := b.heldCall(ctx, subject, seq)
	if err != nil {
		return "", err
	}
	if msg != nil {
		to := msg.Header.Get(headerTo) // of a timer
		if to == "" {
			to = msg.Subject
		}
		name, _ := parseCallSubject(to)
		return fingerprintOf(name, msg), nil
	}
	_, r, err := b.end(ctx, run)
	if err != nil || r.Digest != "" {
		return r.Digest, err
	}
	has, _, err := b.claimOf(ctx, run)
	return has.Digest, err
}

// heldCall reads a call, or a timer, by its sequence; nil if it isn't there any more.
func (b *Broker) heldCall(ctx context.Context, subject string, seq uint64) (*nats.Msg, error) {
	if strings.HasPrefix(subject, subjectTimer) {
		return b.newest(ctx, StreamTimers, subject)
	}
	stream, err := b.js.StreamNameBySubject(ctx, subject)
	if err != nil || seq == anySequence {
		return nil, err
	}
	return b.stored(ctx, stream, getMsg{Seq: seq})
}
