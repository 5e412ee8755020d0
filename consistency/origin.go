package consistency

import "github.com/cloudburst-nats/cloudburst/wire"

// Originate returns a past whose run counts under a call, unless it says already under
// which. A run that may begin again is told so at its first call: what a node counts after
// that replaces what the same node counted before, though it is another call by then.
func Originate(past, source string, seq uint64) (string, error) {
	p, err := ParsePast(past)
	if err != nil || p.Origin != nil {
		return past, err
	}
	p.originate(source, seq)
	return p.String(), nil
}

func (p *Past) originate(source string, seq uint64) {
	p.Origin = &Origin{source + wire.SourceAgain, seq}
}

// Reopen returns a past as it is, but for a first call that is settled: then what is
// counted under that call is ignored. The run had ended, and a dead letter of it was
// replayed; or it went on for longer than its state is kept. It counts under its own
// calls from then on.
func Reopen(past string, settled func(source string) (uint64, error)) (string, error) {
	p, err := ParsePast(past)
	if err != nil || p.Origin == nil {
		return past, err
	}
	floor, err := settled(p.Origin.Source)
	if err != nil || floor < p.Origin.Seq {
		return past, err
	}
	p.Origin = nil
	return p.String(), nil
}
