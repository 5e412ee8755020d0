package wasm

import (
	"context"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// take returns an instance that is as if nobody had used it.
func (f *function) take(x *execution) (*instance, error) {
	for {
		f.mu.Lock()
		last := len(f.idle) - 1
		if last >= 0 {
			inst := f.idle[last]
			f.idle[last] = nil
			f.idle = f.idle[:last]
			f.mu.Unlock()
			return inst, nil
		}
		room, img := f.total < f.most+f.room.Blocked(), f.image // those that wait for others keep theirs
		if room {
			f.total++
		}
		f.mu.Unlock()
		if room {
			return f.another(x, img)
		}
		select { // one is being made ready
		case <-f.freed:
		case <-x.Done():
			return nil, context.Cause(x)
		}
	}
}

// another makes an instance, which is one of total already.
func (f *function) another(x *execution, img *image) (*instance, error) {
	inst, err := f.newInstance(x)
	if err != nil {
		f.lost()
		return nil, err
	}
	if !inst.ready && img != nil {
		inst.ready = inst.reset(img)
	}
	return inst, nil
}

// put takes an instance back from a call that ended with err.
func (f *function) put(inst *instance, err error) {
	f.mu.Lock()
	m, img := f.mode, f.image
	if m != fromImage {
		img = f.made
	}
	f.mu.Unlock()
	ended := err != nil && wire.KindOf(err) != wire.KindFunction // in the middle of something
	if ended || !inst.reset(img) {
		f.drop(inst)
		return
	}
	inst.ready = m == fromImage
	if m == ahead {
		f.hand.Add(1) // while the call's own is still held
		go f.makeReady(inst)
		return
	}
	f.give(inst)
}

// unused is how long an instance is kept that nobody uses.
const unused = time.Minute

// give makes an instance available, and closes the one that was used longest ago
// if that was a long time ago. That is often enough: what a function that isn't
// called keeps is what it had when it was.
func (f *function) give(inst *instance) {
	inst.used = time.Now()
	var old *instance
	f.mu.Lock()
	f.idle = append(f.idle, inst)
	if inst.used.Sub(f.idle[0].used) > unused {
		old = f.idle[0]
		f.idle = append(f.idle[:0], f.idle[1:]...)
	}
	f.mu.Unlock()
	if old != nil {
		f.drop(old)
		return
	}
	f.tell()
}

// drop closes an instance that can't be used again.
func (f *function) drop(inst *instance) {
	_ = inst.close() // there is nothing in it that could fail
	f.lost()
}

func (f *function) lost() {
	f.mu.Lock()
	f.total--
	f.mu.Unlock()
	f.tell()
}

// tell wakes one who waits for an instance. No more calls can wait than freed has
// room for.
func (f *function) tell() {
	select {
	case f.freed <- struct{}{}:
	default:
	}
}
