package broker

import (
	"encoding/json"
	"math"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A doubt tells which calls may have been handed out before, though the server says
// that it is the first time. A server that is killed forgets its last deliveries and
// acknowledgements, which weren't on its disk, and so does a consumer that is deleted
// and made anew. (A replicated consumer hands a call out once a quorum knows of it.)
//
// All that such a server may have forgotten was stored before it died. So the calls in
// doubt are those up to the last sequence of the stream, asked for after the loss: at
// the start, after each reconnect, and whenever the consumer seems to be another one.
// Until the answer comes all calls are in doubt.
//
// It belongs to a puller, whose lock guards it.
type doubt struct {
	upTo    uint64 // calls up to this sequence are in doubt
	highest uint64 // the newest call that came for the first time
	gen     uint64 // of the loss: an answer to an earlier question is void
	asked   bool   // a question is under way, or answered
}

// begin notes that the server may have forgotten what it has handed out.
func (d *doubt) begin() {
	d.upTo, d.asked = math.MaxUint64, false
	d.gen++
}

// of says whether a call is in doubt that is handed out for the first time. A consumer
// goes up its stream: one that comes back to a call is no longer the same.
func (d *doubt) of(seq uint64) bool {
	if seq <= d.highest {
		d.begin()
	}
	d.highest = max(d.highest, seq)
	return seq <= d.upTo
}

// ask says whether the stream is to be asked now, and for which loss.
func (d *doubt) ask() (gen uint64, due bool) {
	due = !d.asked
	d.asked = true
	return d.gen, due
}

// answered takes in the stream's last sequence; false: there is no answer.
func (d *doubt) answered(gen, last uint64, ok bool) {
	switch {
	case gen != d.gen:
	case ok:
		d.upTo = last
	default:
		d.asked = false
	}
}

// settleDoubt asks the stream how far it has come, if that isn't known. It doesn't wait.
func (p *Puller) settleDoubt() {
	p.mu.Lock()
	gen, due := p.doubt.ask()
	p.mu.Unlock()
	if !due {
		return
	}
	tell := func(msg *nats.Msg) bool {
		last, ok := lastSequence(msg)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.doubt.answered(gen, last, ok)
		return false
	}
	reply, id := p.b.mux.open(p.b.timeout, tell)
	if err := p.b.nc.PublishRequest("$JS.API.STREAM.INFO."+CallsStream(p.pool), reply, nil); err != nil {
		p.b.mux.close(id)
		tell(nil)
	}
}

// lastSequence reads the answer to a STREAM.INFO request; nil is none.
func lastSequence(msg *nats.Msg) (last uint64, ok bool) {
	var answer struct {
		Error *jetstream.APIError `json:"error"`
		State *struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if msg == nil || json.Unmarshal(msg.Data, &answer) != nil || answer.Error != nil || answer.State == nil {
		return 0, false
	}
	return answer.State.Last, true
}
