package broker

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A run that may begin again, and goes on in several calls, leaves a mark while it lives:
//
//	cb.run.$live.<pool>.<run>   how far the pool's calls were settled before the mark
//
// What the run counts is counted under its first call, which is acknowledged long before
// the run ends. The marks hold back up to where such calls are taken for settled: a count
// that is made again must still replace the one before.
//
// The oldest mark says it for all: when it was made, no first call of a live run was
// acknowledged, since a run's first call is acknowledged after its mark is stored. So all
// of them are above what was settled then.
const subjectLive = subjectRun + "$live."

// liveUnheard is after how long somebody asks whether a mark's run has ended. Its worker
// may have died between the run's end and the mark's removal.
const liveUnheard = time.Minute

func liveSubject(pool, run string) string {
	return subjectLive + pool + "." + runToken(wire.RunID(run))
}

// Live marks a run that may begin again. Its first call is in the stream, and isn't
// acknowledged yet.
func (b *Broker) Live(ctx context.Context, run wire.RunID, stream string) error {
	pool := strings.TrimPrefix(stream, callsPrefix)
	info, err := b.consumerInfo(ctx, pool)
	if err != nil {
		return err
	}
	floor := strconv.FormatUint(info.AckFloor.Stream, 10)
	_, err = b.put(ctx, &nats.Msg{Subject: liveSubject(pool, string(run)), Data: []byte(floor)})
	return apiError("mark run", string(run), err)
}

// notLive removes the mark of a run. It doesn't wait: see oldestLive.
func (b *Broker) notLive(subject string) {
	reply, id := b.mux.open(b.timeout, func(*nats.Msg) bool { return false })
	if err := b.nc.PublishRequest("$JS.API.STREAM.PURGE."+StreamRuns, reply, []byte(`{"filter":"`+subject+`"}`)); err != nil {
		b.mux.close(id)
	}
}

// markedOver says whether a run that was marked has ended: it has a result, or what it began
// with is gone, which is kept as long as the run lives.
func (b *Broker) markedOver(ctx context.Context, run wire.RunID) (bool, error) {
	if b.Ended(ctx, run) {
		return true, nil
	}
	began, err := b.newest(ctx, StreamRuns, runSubject(run, runPinned))
	return began == nil, apiError("read run", string(run), err)
}

// oldestLive returns up to which sequence the first calls of a pool's runs may be taken
// for settled. Whoever asks has read the pool's acknowledgement floor before.
func (b *Broker) oldestLive(ctx context.Context, pool string) (uint64, error) {
	const marks = 100 // of runs that have ended; the next who asks goes on
	for range marks {
		msg, err := b.stored(ctx, StreamRuns, getMsg{Seq: 1, Next: subjectLive + pool + ".*"})
		if err != nil {
			return 0, apiError("read runs", pool, err)
		}
		if msg == nil {
			return math.MaxUint64, nil
		}
		subject := msg.Header.Get(jetstream.SubjectHeader)
		run := wire.RunID(unescapeToken(strings.TrimPrefix(subject, subjectLive+pool+".")))
		over := false
		if b.Now().Sub(storedAt(msg)) > liveUnheard {
			if over, err = b.markedOver(ctx, run); err != nil {
				return 0, err
			}
		}
		if over {
			if err := b.purgeThrough(ctx, StreamRuns, subject, sequenceOf(msg)); err != nil {
				return 0, apiError("unmark run", string(run), err)
			}
			continue
		}
		floor, err := strconv.ParseUint(string(msg.Data), 10, 64)
		if err != nil {
			return 0, nil //nolint:nilerr // not ours: nothing is settled while the mark is there
		}
		return floor, nil
	}
	return 0, nil
}
