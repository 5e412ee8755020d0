package broker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// EnsurePool makes a pool's stream and its consumer, and has the stream listen
// to the given call subjects besides those that it listens to already. What somebody
// changed by hand stays, or is put right if a promise rests on it. A subject that
// another pool has is an error of KindConflict. The platform must have been ensured.
//
// The server checks a stream's subjects for overlap pair by pair, so each change
// takes it a while: 0.1 s with 1,000 in the pool, 2 s with 5,000, and 8 s with
// 10,000, which is as long as a lock may be held. Add all at once, and use
// another pool before that.
func (b *Broker) EnsurePool(ctx context.Context, pool string, subjects []string) error {
	if err := wire.CheckName("pool", pool); err != nil {
		return err
	}
	if _, err := b.settledSizes(ctx); err != nil {
		return err
	}
	ready, err := b.poolReady(ctx, pool, subjects)
	if err != nil {
		return err
	}
	if !ready {
		err = b.withLock(ctx, "pool."+pool, func(ctx context.Context) error {
			made, err := b.addSubjects(ctx, pool, subjects)
			if err != nil {
				return err
			}
			return b.ensureConsumer(ctx, pool, made)
		})
	}
	if err == nil {
		for _, subject := range subjects {
			b.remember(subject)
		}
	}
	return err
}

// RemoveSubjects has a pool's stream no longer listen to the given subjects.
// Calls that it holds stay. A pool or subject that isn't there is no error.
func (b *Broker) RemoveSubjects(ctx context.Context, pool string, subjects []string) error {
	gone := make(map[string]bool, len(subjects))
	for _, subject := range subjects {
		gone[subject] = true
		b.known.forget(subject)
	}
	return b.withLock(ctx, "pool."+pool, func(ctx context.Context) error {
		have, listens, err := b.callsConfig(ctx, pool)
		if err != nil || have == nil {
			return err
		}
		left := slices.DeleteFunc(slices.Clone(listens), func(s string) bool { return gone[s] })
		if len(left) == len(listens) {
			return nil
		}
		return b.listen(ctx, pool, have, left, nil)
	})
}

// poolReady says whether a pool has all that it needs. It takes no lock: most
// of the time this is so.
func (b *Broker) poolReady(ctx context.Context, pool string, subjects []string) (bool, error) {
	have, listens, err := b.callsConfig(ctx, pool)
	if err != nil || have == nil {
		return false, err
	}
	if err := b.mendPool(ctx, pool, have); err != nil {
		return false, err
	}
	if len(missing(listens, subjects)) > 0 {
		return false, nil
	}
	consumer, err := b.consumerConfig(ctx, pool)
	if err != nil || consumer == nil {
		return false, err
	}
	return true, b.mendConsumer(ctx, pool, consumer)
}

// mendPool puts a pool's stream right.
func (b *Broker) mendPool(ctx context.Context, pool string, have config) error {
	want, _ := b.topology().wanted(CallsStream(pool), have)
	return b.mend(ctx, have, want)
}

// addSubjects makes the stream, or adds what it doesn't listen to yet. The pool's
// lock is held: what was read doesn't change before it is written back.
func (b *Broker) addSubjects(ctx context.Context, pool string, subjects []string) (made bool, err error) {
	have, listens, err := b.callsConfig(ctx, pool)
	if err != nil {
		return false, err
	}
	if have == nil {
		cfg := b.topology().calls(pool, orIdle(pool, slices.Compact(slices.Sorted(slices.Values(subjects)))))
		cfg.FirstSeq = b.firstCall(ctx, pool)
		err := patiently(ctx, func() error {
			within, cancel := context.WithTimeout(ctx, b.overlapTime(len(subjects)))
			defer cancel()
			_, err := b.js.CreateStream(within, cfg)
			return err
		})
		return err == nil, b.overlap(ctx, pool, subjects, createError(cfg.Name, err))
	}
	add := missing(listens, subjects)
	if len(add) == 0 {
		return false, nil
	}
	return false, b.listen(ctx, pool, have, append(listens, add...), add)
}

// listen changes which subjects a pool's stream listens to, and nothing else;
// added are those of them that it didn't listen to before.
func (b *Broker) listen(ctx context.Context, pool string, have config, subjects, added []string) error {
	raw, err := json.Marshal(orIdle(pool, subjects))
	if err != nil {
		return err
	}
	have["subjects"] = raw
	err = patiently(ctx, func() error {
		_, err := b.configOf(ctx, "STREAM.UPDATE."+CallsStream(pool), have, b.overlapTime(len(subjects)))
		return err
	})
	return b.overlap(ctx, pool, added, apiError("change subjects of pool", pool, err))
}

// overlapTime is how long the server may take to change a stream: it compares
// its subjects pair by pair, at 150 ns a pair.
func (b *Broker) overlapTime(subjects int) time.Duration {
	pairs := subjects * subjects
	return b.timeout + 300*time.Duration(pairs)
}

// orIdle returns the subjects without the one that a stream has when it has no
// other, which is its name; or that one, if there are none.
func orIdle(pool string, subjects []string) []string {
	idle := CallsStream(pool)
	subjects = slices.DeleteFunc(slices.Clone(subjects), func(s string) bool { return s == idle })
	if len(subjects) == 0 {
		return []string{idle}
	}
	return subjects
}

// callsConfig returns the configuration of a pool's stream and what it listens
// to; nil if there is none.
func (b *Broker) callsConfig(ctx context.Context, pool string) (config, []string, error) {
	have, err := b.streamConfig(ctx, CallsStream(pool))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, apiError("read pool", pool, err)
	}
	listens, err := have.subjects()
	return have, listens, err
}

func (b *Broker) consumerConfig(ctx context.Context, pool string) (config, error) {
	have, err := b.configOf(ctx, "CONSUMER.INFO."+CallsStream(pool)+"."+CallsConsumer, nil, b.timeout)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, nil
	}
	return have, apiError("read pool", pool, err)
}

// ensureConsumer makes a pool's consumer; made says that its stream was made just now.
func (b *Broker) ensureConsumer(ctx context.Context, pool string, made bool) error {
	have, err := b.consumerConfig(ctx, pool)
	if err != nil {
		return err
	}
	if have != nil {
		return b.mendConsumer(ctx, pool, have)
	}
	known, lost := b.floors.of(pool)
	if !made && lost {
		if err := b.purgeSettled(ctx, pool, known); err != nil {
			return err
		}
	}
	err = patiently(ctx, func() error {
		_, err := b.js.CreateConsumer(ctx, CallsStream(pool), b.topology().workers())
		return err
	})
	if err != nil {
		return apiError("create consumer of pool", pool, err)
	}
	switch {
	case lost && made:
		b.restored(CallsStream(pool), "it was deleted, and the calls that it held are gone")
	case lost:
		b.restored(CallsStream(pool)+"."+CallsConsumer, "it was deleted; calls that may not have ended are handed out again")
	}
	return nil
}

// missing returns what is wanted and not there, once each.
func missing(have, want []string) []string {
	there := make(map[string]bool, len(have)+len(want))
	for _, s := range have {
		there[s] = true
	}
	var add []string
	for _, s := range want {
		if !there[s] {
			there[s] = true
			add = append(add, s)
		}
	}
	return add
}

// overlap turns the server's error for a subject that another stream has into
// one that names both. It asks for subjects one by one, and ends at the first.
func (b *Broker) overlap(ctx context.Context, pool string, subjects []string, err error) error {
	const codeOverlap = 10065 // JSStreamSubjectOverlapErr
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != codeOverlap {
		return err
	}
	for _, subject := range subjects {
		stream, lookErr := b.js.StreamNameBySubject(ctx, subject)
		if lookErr != nil || stream == CallsStream(pool) {
			continue
		}
		owner := "stream " + stream
		if other, ok := strings.CutPrefix(stream, CallsStream("")); ok {
			owner = "pool " + other
		}
		return &wire.Error{
			Op: "set up pool " + pool, Kind: wire.KindConflict, Name: callName(subject), Err: err,
			Msg: owner + " has it already: remove it there first, or use another name",
		}
	}
	return err
}

// callName returns what a call subject calls.
func callName(subject string) string {
	name, node := parseCallSubject(subject)
	switch {
	case name == "":
		return subject
	case node == "":
		return name
	}
	return name + "." + node
}

// known is the set of call subjects that a stream of the platform was seen to
// listen to. It grows up to the number of functions and nodes: other subjects are refused,
// and what is refused isn't added.
type known struct {
	mu       sync.RWMutex         // guards subjects
	subjects map[string]time.Time // when an acknowledgement was last heard; zero after a refusal
}

func (k *known) has(subject string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.subjects[subject]
	return ok
}

func (k *known) add(subject string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.subjects == nil {
		k.subjects = make(map[string]time.Time)
	}
	k.subjects[subject] = time.Now()
}

// heard says whether the stream acknowledged something on the subject a moment ago.
func (k *known) heard(subject string, within time.Duration) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return time.Since(k.subjects[subject]) < within
}

// refused has the next call ask for an acknowledgement.
func (k *known) refused(subject string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.subjects[subject]; ok {
		k.subjects[subject] = time.Time{}
	}
}

func (k *known) forget(subject string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.subjects, subject)
}

// knows says whether a stream listened to the call subject when last heard of.
// Nobody answers while JetStream restarts, just as for an unknown name: this
// tells the two apart, without asking.
func (b *Broker) knows(subject string) bool { return b.known.has(subject) }

// remember takes note that a stream listens to the call subject.
func (b *Broker) remember(subject string) {
	if !b.known.has(subject) {
		b.known.add(subject)
	}
}
