package broker

import (
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
)

// observer tells of what happens in the broker: one method an event, one log
// line each. A nil log is silent.
type observer struct{ log *logrus.Entry }

func (o observer) disconnected(err error) {
	if o.log != nil && err != nil {
		o.log.WithError(err).Warn("lost the NATS server, reconnecting")
	}
}

func (o observer) reconnected() {
	if o.log != nil {
		o.log.Info("reconnected to the NATS server")
	}
}

func (o observer) asyncError(sub *nats.Subscription, err error) {
	if o.log == nil {
		return
	}
	entry := o.log.WithError(err)
	if sub != nil {
		entry = entry.WithField("subject", sub.Subject)
	}
	entry.Warn("NATS reported a problem")
}

func (o observer) closedUnflushed(err error) {
	if o.log != nil {
		o.log.WithError(err).Debug("closed without a last flush")
	}
}

func (o observer) pullFailed(pool string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("pool", pool).Warn("could not ask for calls")
	}
}

func (o observer) brokenEntry(e BrokenEntry) {
	if o.log != nil {
		o.log.WithFields(logrus.Fields{"bucket": e.Bucket, "key": e.Key, "error": e.Reason}).Error("passed over an entry that can't be used: `cloudburst doctor` lists all of them")
	}
}

func (o observer) unreadableMessage(to, from string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithFields(logrus.Fields{"to": to, "from": from}).Error("passed over a message that can't be read")
	}
}

func (o observer) restored(name, why string) {
	if o.log != nil {
		o.log.WithFields(logrus.Fields{"name": name, "why": why}).Warn("made anew")
	}
}

func (o observer) unreadable(msg *nats.Msg, err error, left uint64) {
	if o.log != nil {
		o.log.WithError(err).WithFields(logrus.Fields{"subject": msg.Subject, "like_it": left}).Error("passed over a message that can't be read")
	}
}

func (o observer) resendFailed(subject string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("subject", subject).Debug("could not send the call again yet")
	}
}

func (o observer) replyFailed(name string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("fn", name).Warn("could not reply; the result is stored")
	}
}

func (o observer) noteFailed(name string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("fn", name).Warn("could not note that a call is handed back; it counts as lost")
	}
}

func (o observer) eventLost(subject string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("subject", subject).Debug("could not tell of an event")
	}
}

func (o observer) lockKept(subject string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("subject", subject).Debug("could not release a lock; it lapses by itself")
	}
}

func (o observer) catchUpFailed(what string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("what", what).Warn("could not catch up, trying again")
	}
}

func (o observer) leads(name string) {
	if o.log != nil {
		o.log.WithField("lead", name).Info("leads")
	}
}

func (o observer) leadLost(name string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("lead", name).Warn("lost the lead: waits for it again")
	}
}

func (o observer) leadUnasked(name string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("lead", name).Warn("could not ask for the lead: asks again")
	}
}

func (o observer) sizesUnknown(err error) {
	if o.log != nil {
		o.log.WithError(err).Debug("could not read the platform's sizes yet")
	}
}

func (o observer) wrongSizes(wrong []string) {
	if o.log != nil {
		o.log.WithField("wrong", wrong).Warn("the record of the platform's sizes can't be read whole: `cloudburst platform set` mends it")
	}
}

func (o observer) resized(from, to Topology, changed []string) {
	if o.log == nil {
		return
	}
	for _, s := range Sizes() {
		if slices.Contains(changed, s.Name) {
			o.log.WithFields(logrus.Fields{"size": s.Name, "from": s.Text(from), "to": s.Text(to)}).Warn("a size of the platform was changed")
		}
	}
}

func (o observer) putRight(what, name string, d difference) {
	if o.log != nil {
		o.log.WithFields(logrus.Fields{what: name, "field": d.field, "found": d.found, "right": d.right}).
			Warn("somebody had changed what a promise rests on: put right")
	}
}

func (o observer) fewCopies(stream string, d difference, err error) {
	if o.log != nil {
		o.log.WithError(err).WithFields(logrus.Fields{"stream": stream, "field": d.field, "found": d.found, "right": d.right}).
			Warn("a stream has fewer copies than the platform keeps, and can't get more yet")
	}
}

func (o observer) storeFull(store, why string) {
	if o.log != nil {
		o.log.WithFields(logrus.Fields{"store": store, "error": why}).Error("nothing can be stored: the disk is full, or fails")
	}
}

func (o observer) storeOpens(store string) {
	if o.log != nil {
		o.log.WithField("store", store).Warn("the store can be written again: the NATS server starts anew on it")
	}
}

func (o observer) storeClosed(store string, err error) {
	if o.log != nil {
		o.log.WithError(err).WithField("store", store).Error("the NATS server could not be started anew, trying again")
	}
}
