package broker

import (
	"cmp"
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// The gateway speaks the NATS micro protocol (ADR-32), so that `nats micro
// ls|info|stats|ping` show every function and DAG as a service of its own name.
// It uses the micro package's types and not its services, for three reasons:
// those take thirteen subscriptions each, and ten thousand functions are meant
// to work; they run one request at a time; and they would time the handing-over
// of a call to its stream, where what one wants to see is the function.
//
// All gateways together are one instance of each service: they share a queue
// group for discovery too, and so whichever answers, it answers for all. The
// numbers are those that the workers publish, summed, plus the requests that
// the answering gateway refused.

// workerSilence is after how long a worker that says nothing is taken to be
// gone: its numbers, which no longer change, are added up.
const workerSilence = 10 * time.Minute

// serviceVersion is what micro wants to be a semantic version: that of the
// protocol spoken here. DAGs show their own as metadata.
const serviceVersion = "1.0.0"

type discovery struct {
	b         *Broker
	catalogue *Catalogue
	started   time.Time

	mu      sync.Mutex               // guards what follows
	workers map[string]*workerStats  // those that were heard lately: see settleLocked
	past    map[string]FunctionStats // of workers that are gone, and of refused requests; by names that were registered
}

type workerStats struct {
	seen  time.Time
	stats map[string]FunctionStats
}

func newDiscovery(b *Broker, c *Catalogue, now time.Time) *discovery {
	return &discovery{b: b, catalogue: c, started: now, workers: make(map[string]*workerStats), past: make(map[string]FunctionStats)}
}

// start subscribes; stop ends that.
func (d *discovery) start() (stop func(), err error) {
	stats, err := d.b.nc.Subscribe(subjectStats+"*", d.receive)
	if err != nil {
		return nil, err
	}
	asked, err := d.b.nc.QueueSubscribe(micro.APIPrefix+".>", gatewayGroup, d.asked)
	if err != nil {
		d.b.unsubscribe(stats)
		return nil, err
	}
	return func() {
		d.b.unsubscribe(asked)
		d.b.unsubscribe(stats)
	}, nil
}

// receive takes in a worker's numbers.
func (d *discovery) receive(msg *nats.Msg) {
	var part map[string]FunctionStats
	if err := json.Unmarshal(msg.Data, &part); err != nil {
		d.b.unreadable(msg, err)
		return
	}
	d.add(strings.TrimPrefix(msg.Subject, subjectStats), part, time.Now())
}

func (d *discovery) add(worker string, part map[string]FunctionStats, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.workers[worker]
	if w == nil {
		w = &workerStats{stats: make(map[string]FunctionStats, len(part))}
		d.workers[worker] = w
		d.settleLocked(now)
	}
	w.seen = now
	maps.Copy(w.stats, part)
}

// settleLocked adds up the numbers of workers that are gone.
func (d *discovery) settleLocked(now time.Time) {
	for id, w := range d.workers {
		if w.seen.IsZero() || now.Sub(w.seen) < workerSilence {
			continue
		}
		for name, s := range w.stats {
			d.past[name] = sum(d.past[name], s)
		}
		delete(d.workers, id)
	}
}

// refused counts a request that never became a call.
func (d *discovery) refused(name string, e *wire.Error) {
	if _, known := d.catalogue.Lookup(name); !known {
		return // whoever makes names up must not fill our memory
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.past[name] = sum(d.past[name], FunctionStats{Calls: 1, Errors: 1, LastError: e.Error()})
}

// of returns the numbers of a service.
func (d *discovery) of(name string) FunctionStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.past[name]
	for _, w := range d.workers {
		all = sum(all, w.stats[name])
	}
	return all
}

func sum(x, y FunctionStats) FunctionStats {
	return FunctionStats{Calls: x.Calls + y.Calls, Errors: x.Errors + y.Errors, Took: x.Took + y.Took, LastError: cmp.Or(y.LastError, x.LastError)}
}

// asked answers $SRV.<verb>[.<name>[.<id>]].
func (d *discovery) asked(msg *nats.Msg) {
	tokens := strings.Split(msg.Subject, ".")
	if msg.Reply == "" || len(tokens) > 4 {
		return
	}
	var answer func(Entry) any
	switch tokens[1] {
	case micro.PingVerb.String():
		answer = func(e Entry) any { return micro.Ping{ServiceIdentity: identity(e), Type: micro.PingResponseType} }
	case micro.InfoVerb.String():
		answer = func(e Entry) any { return d.info(e) }
	case micro.StatsVerb.String():
		answer = func(e Entry) any { return d.stats(e) }
	default:
		return
	}
	if len(tokens) == 2 {
		for _, e := range d.catalogue.Entries() {
			d.answer(msg, answer(e))
		}
		return
	}
	e, ok := d.catalogue.Lookup(tokens[2])
	if ok && (len(tokens) == 3 || tokens[3] == identity(e).ID) {
		d.answer(msg, answer(e))
	}
}

func (d *discovery) answer(msg *nats.Msg, v any) {
	body, err := json.Marshal(v)
	if err == nil {
		err = d.b.nc.Publish(msg.Reply, body)
	}
	if err != nil {
		d.b.observe.replyFailed(msg.Subject, err)
	}
}

// identity is the same for whichever gateway answers.
func identity(e Entry) micro.ServiceIdentity {
	id := micro.ServiceIdentity{Name: e.Name, ID: gatewayGroup + "-" + e.Name, Version: serviceVersion}
	if e.DAG != nil {
		id.Metadata = map[string]string{"kind": "dag", "pool": e.Pool, "version": e.DAG.Version}
	} else {
		id.Metadata = map[string]string{"kind": "function", "pool": e.Pool, "runtime": e.Function.Runtime}
	}
	return id
}

func (d *discovery) info(e Entry) micro.Info {
	about := "DAG"
	if e.Function != nil {
		about = e.Function.About
	}
	return micro.Info{
		ServiceIdentity: identity(e), Type: micro.InfoResponseType, Description: about,
		Endpoints: []micro.EndpointInfo{{Name: "call", Subject: subjectFn + e.Name, QueueGroup: gatewayGroup, Metadata: map[string]string{}}},
	}
}

func (d *discovery) stats(e Entry) micro.Stats {
	s := d.of(e.Name)
	end := &micro.EndpointStats{
		Name: "call", Subject: subjectFn + e.Name, QueueGroup: gatewayGroup,
		NumRequests: int(s.Calls), NumErrors: int(s.Errors), LastError: s.LastError, ProcessingTime: s.Took,
	}
	if s.Calls > 0 {
		end.AverageProcessingTime = s.Took / time.Duration(s.Calls)
	}
	return micro.Stats{ServiceIdentity: identity(e), Type: micro.StatsResponseType, Started: d.started, Endpoints: []*micro.EndpointStats{end}}
}
