package broker

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// reviveEach is how often a pool is looked at that doesn't answer, and reviveRest how
// long one is left alone that was found whole.
const (
	reviveEach = 500 * time.Millisecond
	reviveRest = time.Second
)

// isGoneStatus says whether a request for calls ended because the consumer isn't there.
func isGoneStatus(status string, msg *nats.Msg) bool {
	return status == "503" || status == "409" && strings.Contains(msg.Header.Get("Description"), "Deleted")
}

// Missed notes that the pool's consumer seems not to be there. It doesn't block.
func (p *Puller) Missed() {
	select {
	case p.gone <- struct{}{}:
	default: // it is noted already
	}
}

// revive makes the pool's stream and consumer anew whenever they are missed, until ctx
// ends, and has the puller ask again.
func (p *Puller) revive(ctx context.Context) {
	if faulty("revive") {
		return
	}
	rest := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
		select {
		case <-ctx.Done():
			return
		case <-p.gone:
		}
		for told := false; ; told = true {
			err := p.b.RestorePool(ctx, p.pool)
			if err == nil {
				break
			}
			if !told && ctx.Err() == nil {
				p.b.observe.pullFailed(p.pool, err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(reviveEach):
			}
		}
		p.lost() // whatever it was, it may hand out calls that had ended
		rest = reviveRest
	}
}
