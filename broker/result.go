package broker

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Finish ends a delivery with its result: it is stored, the caller is told, the run's
// state is removed if it had one, and once all that is acknowledged the call is, too. then is
// called once, with the reason if the result could not be stored; the call is
// then handed out again. Finish itself doesn't wait.
//
// A caller of this library listens to where its result is stored, so one message
// does both; another gets a copy at its reply inbox. The server delivers and
// stores side by side, so a caller may hear of a result an instant before it is
// stored; should the server die in that instant the run is repeated, with the
// same effects on the state, which was stored before.
func (d *Delivery) Finish(ctx context.Context, r *wire.Result, then func(error)) {
	b := d.b
	if r.Status == wire.StatusFailed {
		r.By = string(placeOf(&d.Call))
	}
	h, whole := r.Encode()
	body, err := b.pack(ctx, nats.Header(h), whole)
	if err != nil {
		then(err)
		return
	}
	b.mux.publish(&nats.Msg{Subject: bucketSubject(BucketResults, string(r.Run)), Header: nats.Header(h), Data: body},
		func(_ uint64, err error) {
			if err == nil && r.Kept {
				b.leave(r, func(err error) { then(d.settle(r, err)) })
				return
			}
			then(d.settle(r, err))
		})
	if r.Status != wire.StatusOK {
		defer b.eventEnded(r)
	}
	if d.Call.Reply == "" {
		return
	}
	reply := &nats.Msg{Subject: d.Call.Reply, Header: nats.Header(h), Data: body}
	switch { // it may know no chunks
	case wire.First(h, wire.HeaderChunks) == "":
	case strings.HasPrefix(r.Value.Type, manifestType): // it was a manifest already
		reply.Header, reply.Data = b.copyFor(ctx, reply.Header, body)
	default:
		reply.Header, reply.Data = b.unchunked(reply.Header, whole, body)
	}
	if err := b.nc.PublishMsg(reply); err != nil {
		b.observe.replyFailed(r.Name, err) // the result is stored: a caller that waits will find it
	}
}

// settle acknowledges the call of a run that has ended, unless something went wrong.
func (d *Delivery) settle(r *wire.Result, err error) error {
	if err != nil {
		return err
	}
	err = d.Ack()
	if r.Digest != "" {
		d.b.releaseID(r.Run)
	}
	return err
}

// Result returns the stored result of a run; KindUnknown if there is none (yet).
func (b *Broker) Result(ctx context.Context, run wire.RunID) (wire.Result, error) {
	r, err := b.storedResult(ctx, run)
	if err != nil {
		return wire.Result{}, err
	}
	return b.unpackResult(ctx, r)
}

func (b *Broker) storedResult(ctx context.Context, run wire.RunID) (wire.Result, error) {
	if err := wire.CheckRunID(run); err != nil {
		return wire.Result{}, err
	}
	msg, err := b.last(ctx, bucketStream(BucketResults), bucketSubject(BucketResults, string(run)))
	if err != nil {
		return wire.Result{}, apiError("read result", string(run), err)
	}
	if msg != nil {
		if r, ok := resultOf(msg); ok {
			return r, nil
		}
	}
	return wire.Result{}, &wire.Error{Op: "read result", Name: string(run), Kind: wire.KindUnknown, Msg: "no result: no such run, not finished, or older than the results are kept"}
}

// resultOf reads a result; one that travels as chunks keeps its manifest.
func resultOf(msg *nats.Msg) (wire.Result, bool) {
	r, ok := wire.DecodeResult(wire.Header(msg.Header), msg.Data)
	if ok && wire.First(wire.Header(msg.Header), wire.HeaderChunks) != "" {
		r.Value.Type = manifestType + r.Value.Type
	}
	return r, ok
}

func (b *Broker) unpackResult(ctx context.Context, r wire.Result) (wire.Result, error) {
	v, err := b.Unpack(ctx, r.Value)
	r.Value = v
	return r, err
}

// last returns the newest message of a subject by direct get; nil if there is none.
func (b *Broker) last(ctx context.Context, stream, subject string) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	msg, err := b.nc.RequestMsgWithContext(ctx, nats.NewMsg("$JS.API.DIRECT.GET."+stream+"."+subject))
	switch {
	case err != nil:
		return nil, err
	case strings.HasPrefix(msg.Header.Get("Status"), "404"):
		return nil, nil
	case msg.Header.Get("Status") != "":
		return nil, &wire.Error{Kind: wire.KindUnavailable, Msg: msg.Header.Get("Status") + " " + msg.Header.Get("Description")}
	}
	return msg, nil
}
