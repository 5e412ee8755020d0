package autoscaler

import "github.com/sirupsen/logrus"

// observer tells of what the loop does: one method an event, one log line each.
type observer struct {
	log    *logrus.Entry
	events Events
}

func (o observer) scaled(pool string, from int, d Decision, cost float64) {
	if o.events != nil {
		o.events.Scaled(pool, from, d)
	}
	if o.log != nil {
		o.log.WithFields(logrus.Fields{"pool": pool, "from": from, "to": d.Workers, "panic": d.Panic, "worker_seconds": int(cost)}).Info("scaled: " + d.Why)
	}
}

func (o observer) failed(pool string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("pool", pool).Warn("could not scale: the workers stay as they are")
	}
}
