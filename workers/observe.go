package workers

import (
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Events tells the outside of further attempts; it must not block. Results tell
// of themselves.
type Events interface {
	Retried(call *wire.Call, wait time.Duration, why error)
	// Restarted tells that the call's run begins again.
	Restarted(call *wire.Call, why string)
}

// Stats are a function's numbers on this worker, since it started.
type Stats struct {
	Calls, Errors uint64
	Took          time.Duration // in all
	Waited        time.Duration // of that, for other calls and without a slot
	LastError     string
}

// Stats returns the numbers of every hosted function, and of every DAG of which
// a run ended here (its time is from the call on, other workers' included).
func (w *Worker) Stats() map[string]Stats {
	w.hosting.RLock()
	all := make(map[string]Stats, len(w.functions))
	for name, h := range w.functions {
		all[name] = h.stats.read()
	}
	w.hosting.RUnlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, c := range w.dags {
		all[name] = c.read()
	}
	return all
}

// dag returns the counters of a DAG.
func (w *Worker) dag(name string) *counters {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.dags[name]
	if c == nil {
		c = new(counters)
		w.dags[name] = c
	}
	return c
}

// Retries returns how many further attempts this worker has asked for.
func (w *Worker) Retries() uint64 { return w.observe.retries.Load() }

// Restarts returns how many runs this worker had begin again.
func (w *Worker) Restarts() uint64 { return w.observe.again.Load() }

type counters struct {
	calls, errors atomic.Uint64
	took, waited  atomic.Int64
	last          atomic.Pointer[string]
}

func (c *counters) read() Stats {
	s := Stats{Calls: c.calls.Load(), Errors: c.errors.Load(), Took: time.Duration(c.took.Load()), Waited: time.Duration(c.waited.Load())}
	if last := c.last.Load(); last != nil {
		s.LastError = *last
	}
	return s
}

func (c *counters) count(took time.Duration, err error) {
	c.calls.Add(1)
	c.took.Add(int64(took))
	if err != nil {
		c.errors.Add(1)
		msg := err.Error()
		c.last.Store(&msg)
	}
}

// observer logs and counts: one method an event.
type observer struct {
	log     *logrus.Entry
	events  Events
	retries atomic.Uint64
	again   atomic.Uint64
}

func (o *observer) started(w *Worker) {
	if o.log != nil {
		o.log.WithFields(logrus.Fields{"pool": w.cfg.Pool, "node": w.cfg.ID, "functions": len(w.Functions())}).Info("worker started")
	}
}

func (o *observer) drained(w *Worker) {
	if o.log != nil {
		o.log.WithFields(logrus.Fields{"pool": w.cfg.Pool, "node": w.cfg.ID}).Info("worker drained")
	}
}

func (o *observer) retried(j *job, wait time.Duration, why error) {
	o.retries.Add(1)
	if o.events != nil {
		o.events.Retried(&j.call, wait, why)
	}
	if o.log != nil {
		o.of(j).WithError(why).WithField("wait", wait.String()).Info("call is handed out again")
	}
}

func (o *observer) restarted(j *job, why string) {
	o.again.Add(1)
	if o.events != nil {
		o.events.Restarted(&j.call, why)
	}
	if o.log != nil {
		o.of(j).WithField("why", why).Info("run begins again")
	}
}

func (o *observer) buried(j *job, err *wire.Error) {
	if o.log != nil {
		o.of(j).WithError(err).Warn("call became a dead letter")
	}
}

func (o *observer) unsettled(j *job, err error) {
	if o.log != nil {
		o.of(j).WithError(err).Warn("call could not be settled; it is handed out again")
	}
}

func (o *observer) silent(j *job, err error) {
	if o.log != nil {
		o.of(j).WithError(err).Warn("no sign of life could be given for the call")
	}
}

func (o *observer) of(j *job) *logrus.Entry {
	return o.log.WithFields(logrus.Fields{"fn": j.call.Name, "run": string(j.call.Run), "attempt": j.call.Attempt})
}
