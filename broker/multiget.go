package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/internal/backoff"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// errTooMany says that a multi-get matched more subjects than the server reads
// in one snapshot (1024), or more bytes than it sends in one (64 MiB).
var errTooMany = errors.New("more than the server reads at once")

const (
	headerUpTo    = "Nats-UpTo-Sequence"
	headerPending = "Nats-Num-Pending"

	fenceWait = 50 * time.Millisecond // between two tries, at most
)

// lastMulti reads the last message of every subject that matches one of the
// given, wildcards allowed: one request and one snapshot of one replica, in the
// order of sequences. With a fence, the snapshot includes everything up to that
// sequence: a replica that lags is asked again, or another, until ctx ends or
// the request's time is up. Over the server's limits it returns errTooMany.
func (b *Broker) lastMulti(ctx context.Context, stream string, subjects []string, fence uint64) ([]*nats.Msg, error) {
	msgs, _, err := b.lastAsOf(ctx, stream, subjects, fence)
	return msgs, err
}

// lastAsOf is lastMulti, and tells up to which sequence the snapshot holds
// everything; the fence if nothing matched.
func (b *Broker) lastAsOf(ctx context.Context, stream string, subjects []string, fence uint64) ([]*nats.Msg, uint64, error) {
	body, err := json.Marshal(struct {
		MultiLast []string `json:"multi_last"`
	}{subjects})
	if err != nil {
		return nil, 0, err
	}
	deadline := time.Now().Add(b.timeout)
	for range backoff.Tries(ctx, time.Millisecond, fenceWait) {
		r := multiReader{done: make(chan error, 1)}
		err := b.directGet(ctx, stream, body, r.receive, r.done)
		if err != nil && !errors.Is(err, errMoved) {
			return nil, 0, err
		}
		if err == nil && r.none {
			// Who has nothing doesn't say how far it has come.
			lags, err := b.lacks(ctx, stream, subjects, fence)
			if !lags {
				return nil, fence, err
			}
		} else if err == nil && r.upTo >= fence {
			return r.msgs, r.upTo, nil
		}
		if time.Now().After(deadline) {
			return nil, 0, &wire.Error{Kind: wire.KindUnavailable, Name: stream, Msg: "no replica has caught up with what was written"}
		}
	}
	return nil, 0, context.Cause(ctx)
}

// lacks tells whether a replica lags that has nothing of the subjects: the leader
// has something, and there is a fence.
func (b *Broker) lacks(ctx context.Context, stream string, subjects []string, fence uint64) (bool, error) {
	if fence == 0 || !b.replicated() {
		return false, nil
	}
	for _, subject := range subjects {
		seq, err := b.leaderSeq(ctx, stream, getMsg{Seq: 1, Next: subject})
		if err != nil || seq != 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// directGet sends a request whose replies go to receive, which says on done
// that it has them all. After a reconnect they won't come: that is errMoved.
func (b *Broker) directGet(ctx context.Context, stream string, body []byte, receive func(*nats.Msg) bool, done <-chan error) error {
	back := b.epoch()
	reply, id := b.mux.open(b.timeout, receive)
	if err := b.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, reply, body); err != nil {
		b.mux.close(id)
		return err
	}
	select {
	case err := <-done:
		if errors.Is(err, nats.ErrTimeout) && b.nc.IsClosed() {
			err = ErrClosed
		}
		return err
	case <-back:
		b.mux.close(id)
		return errMoved
	case <-ctx.Done():
		b.mux.close(id)
		return context.Cause(ctx)
	}
}

// errMoved says that a message went away while it was read, or the server did.
var errMoved = errors.New("replaced while it was read")

// A multiReader gathers the replies to one multi-get. It belongs to the mux's
// goroutine until done tells.
type multiReader struct {
	msgs []*nats.Msg
	upTo uint64
	none bool // nothing matched
	done chan error
}

func (r *multiReader) receive(msg *nats.Msg) bool {
	if msg == nil {
		r.done <- nats.ErrTimeout
		return false
	}
	h := wire.Header(msg.Header)
	if len(msg.Data) > 0 || wire.First(h, jetstream.SubjectHeader) != "" {
		r.msgs = append(r.msgs, msg)
		return true
	}
	switch status := wire.First(h, "Status"); status {
	case "204": // the end
		r.upTo, _ = strconv.ParseUint(wire.First(h, headerUpTo), 10, 64)
		if left := wire.First(h, headerPending); left != "" && left != "0" {
			r.done <- errTooMany
		} else {
			r.done <- nil
		}
	case "404": // nothing matches; or, after the first message, one could not be read any more
		if len(r.msgs) > 0 || wire.First(h, "Description") == "Message Not Found" {
			r.done <- errMoved
		} else {
			r.none = true
			r.done <- nil
		}
	case "413":
		r.done <- errTooMany
	case "503":
		r.done <- nats.ErrNoResponders
	default:
		r.done <- &wire.Error{Kind: wire.KindUnavailable, Msg: status + " " + wire.First(h, "Description")}
	}
	return false
}
