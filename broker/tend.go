package broker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A run may wait for longer than what it needs is kept by itself: large arguments have
// Topology.Blobs, and the results of runs inside of it Topology.Results. So the janitor
// writes such messages anew while runs go on that refer to them. The janitor removes messages
// that nothing refers to, by evidence and not by age alone:
//
//	commit records            of runs that have ended
//	claims of ids             whose worker died after the run's result was stored
//	state                     that a paused worker wrote after its run had ended
//
// Evidence is two looks in a row, see census.

// tendEvery is how often the janitor tends to runs, at most; a quarter of the shortest time
// that anything is kept for, if that is less.
const tendEvery = 15 * time.Minute

// tendAfter is when to tend to runs again.
func (t Topology) tendAfter() time.Duration {
	return max(min(tendEvery, t.Results/4, t.Blobs/4), 100*time.Millisecond)
}

// tendRuns keeps what runs that go on refer to, and removes what is left of others. before
// is the last census, nil if there was none: then nothing is removed.
func (b *Broker) tendRuns(ctx context.Context, before *census) (*census, error) {
	now, err := b.census(ctx)
	if err != nil {
		return nil, apiError("look which runs go on", "", err)
	}
	errs := []error{b.keepChunks(ctx, now), b.keepContained(ctx, now)}
	goesOn := func(token string) bool { return now.goesOn(token) || before != nil && before.goesOn(token) }
	remove := before != nil && before.whole && now.whole
	namespaces, err := b.Namespaces(ctx)
	errs = append(errs, err)
	for _, ns := range namespaces {
		errs = append(errs, b.tendCommits(ctx, ns, goesOn, remove))
	}
	if remove {
		called := func(token string) bool { return now.calls[token] || before.calls[token] }
		errs = append(errs, b.dropClaims(ctx, goesOn), b.dropState(ctx, now, called))
	}
	return now, apiError("tend to runs", "", errors.Join(errs...))
}

// renew writes a message anew, so that its age begins again, unless it has been replaced.
func (b *Broker) renew(ctx context.Context, msg *nats.Msg) error {
	h := nats.Header{jetstream.ExpectedLastSubjSeqHeader: {msg.Header.Get(jetstream.SequenceHeader)}}
	for name, values := range msg.Header {
		if !strings.HasPrefix(name, "Nats-") {
			h[name] = values
		}
	}
	_, err := b.put(ctx, &nats.Msg{Subject: msg.Header.Get(jetstream.SubjectHeader), Header: h, Data: msg.Data})
	if isStale(err) {
		return nil // somebody else has
	}
	return err
}

// keepChunks renews the chunks that calls, timers, state and dead letters refer to.
func (b *Broker) keepChunks(ctx context.Context, c *census) error {
	old := time.Now().Add(-b.topology().Blobs / 2)
	for _, msg := range c.large {
		if err := b.renewChunks(ctx, msg, old); err != nil {
			return err
		}
	}
	for stream, filter := range map[string]string{StreamRuns: subjectRun + ">", StreamDead: subjectDead + ">"} {
		var failed error
		err := b.scan(ctx, stream, filter, 0, func(msg *nats.Msg) bool {
			if !storedAt(msg).Before(old) {
				return false
			}
			failed = b.renewChunks(ctx, msg, old)
			return failed == nil
		})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
	}
	return nil
}

// renewChunks renews those chunks of a message that are older than old.
func (b *Broker) renewChunks(ctx context.Context, msg *nats.Msg, old time.Time) error {
	h := wire.Header(msg.Header)
	var manifests [][]byte
	if wire.First(h, wire.HeaderChunks) != "" {
		manifests = append(manifests, msg.Data)
	}
	if past, ok := strings.CutPrefix(wire.First(h, wire.HeaderSession), sessionBlob); ok {
		manifests = append(manifests, []byte(past))
	}
	for _, body := range manifests {
		m, err := readManifest(body)
		if err != nil {
			continue // who wrote it gets the error
		}
		for _, c := range m.Chunks {
			chunk, err := b.newest(ctx, StreamBlobs, subjectBlob+c.Digest)
			if err == nil && chunk != nil && storedAt(chunk).Before(old) {
				err = b.renew(ctx, chunk)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// keepContained renews the results of runs inside of others that haven't heard of them yet.
func (b *Broker) keepContained(ctx context.Context, c *census) error {
	t := b.topology()
	for _, run := range c.contained {
		msg, err := b.newest(ctx, bucketStream(BucketResults), bucketSubject(BucketResults, string(run)))
		if err == nil && msg != nil && !isMarker(msg) && storedAt(msg).Before(time.Now().Add(-t.Results/2)) {
			err = errors.Join(b.renewChunks(ctx, msg, time.Now().Add(-t.Blobs/2)), b.renew(ctx, msg))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tendCommits moves the old commit records of runs that go on to the end of a namespace's
// stream, and removes those before.
func (b *Broker) tendCommits(ctx context.Context, ns string, goesOn func(string) bool, remove bool) error {
	subject := bucketSubject(ns, recordPrefix)
	old := time.Now().Add(-b.topology().Runs)
	var through uint64
	var failed error
	err := b.scan(ctx, bucketStream(ns), subject+"*", 0, func(msg *nats.Msg) bool {
		if !storedAt(msg).Before(old) {
			return false
		}
		record := unescapeToken(strings.TrimPrefix(msg.Header.Get(jetstream.SubjectHeader), subject))
		if run, _, ok := cutLast(record, "/"); ok && goesOn(runToken(wire.RunID(run))) {
			failed = b.renew(ctx, msg)
		}
		through = sequenceOf(msg)
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil || through == 0 || !remove {
		return err
	}
	return b.purgeThrough(ctx, bucketStream(ns), subject+"*", through)
}

// cutLast cuts at the last of separators.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// dropClaims removes claims of ids whose runs don't go on.
func (b *Broker) dropClaims(ctx context.Context, goesOn func(string) bool) error {
	old := time.Now().Add(-b.topology().Runs)
	left := make(map[string]uint64) // subject to sequence
	err := b.scan(ctx, StreamRuns, subjectRun+"*."+runID, 0, func(msg *nats.Msg) bool {
		subject := msg.Header.Get(jetstream.SubjectHeader)
		if !storedAt(msg).Before(old) {
			return false
		}
		if !goesOn(strings.Split(subject, ".")[2]) {
			left[subject] = sequenceOf(msg)
		}
		return true
	})
	for subject, seq := range left {
		if err == nil {
			err = b.purgeThrough(ctx, StreamRuns, subject, seq)
		}
	}
	return err
}

// dropState removes state of runs that have ended, and state that lacks what its run began
// with and is old: it was written after the run had ended. Of other runs that have no call
// nothing is removed: they may wait for a signal, and are listed.
func (b *Broker) dropState(ctx context.Context, c *census, called func(string) bool) error {
	subjects, err := b.subjectsOf(ctx, StreamRuns, subjectRun+"*.*.>")
	if err != nil {
		return err
	}
	done := make(map[string]bool)
	for _, subject := range subjects {
		token := strings.Split(subject, ".")[2]
		if done[token] || called(token) {
			continue
		}
		done[token] = true
		if err := b.dropStateOf(ctx, wire.RunID(unescapeToken(token)), c); err != nil {
			return err
		}
	}
	return nil
}

func (b *Broker) dropStateOf(ctx context.Context, run wire.RunID, c *census) error {
	msg, r, err := b.end(ctx, run)
	if err != nil || msg != nil && r.Status == wire.StatusFailed || msg == nil && c.runs[runToken(run)] {
		return err
	}
	state, err := b.lastMulti(ctx, StreamRuns, []string{stateOf(run)}, 0)
	if err != nil {
		if errors.Is(err, errTooMany) {
			err = nil // it has run lately, or is listed
		}
		return err
	}
	var through uint64
	old := c.began.Add(-b.topology().Runs)
	for _, s := range state {
		if msg == nil && !storedAt(s).Before(old) {
			return nil
		}
		through = max(through, sequenceOf(s))
	}
	if through == 0 {
		return nil
	}
	return b.purgeThrough(ctx, StreamRuns, stateOf(run), through)
}
