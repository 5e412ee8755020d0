package dagengine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// ErrNotBegun is what Signal says of a run of which it finds nothing: it isn't there,
// hasn't begun, or awaits no signals.
var ErrNotBegun = &wire.Error{Op: "signal", Kind: wire.KindUnknown, Msg: "no such run has begun, or it awaits no signals"}

// caller is what the calls of a run have in common, kept for those that come of
// signals.
type caller struct {
	Reply string `json:"reply,omitempty"`
	Level string `json:"level,omitempty"`
	Depth int    `json:"depth,omitempty"`
	// Digest is the call's.
	Digest string `json:"digest,omitempty"`
}

// Signal brings a value from outside a run to the node that awaits it by this name,
// before or after the node's other inputs. It is ErrNotBegun if the run
// hasn't begun, of KindUnknown if it awaits no such signal, and of KindConflict if there was one
// already: whoever doesn't know whether theirs came through may send it again.
func (e *Engine) Signal(ctx context.Context, id wire.RunID, name string, value wire.Value) error {
	kept, err := e.runs.Inputs(ctx, id, startNode, 0)
	if err != nil {
		return err
	}
	pin, ok := kept[pinned]
	if !ok {
		return ErrNotBegun
	}
	var version string
	if err := pin.Decode(&version); err != nil {
		return fmt.Errorf("read the version that run %s began with: %w", id, err)
	}
	plan, err := e.plans.Version(ctx, version)
	if err != nil {
		return err
	}
	v, err := plan.signal(name)
	if err != nil {
		return err
	}
	if _, err := v.part(signalNode, value); err != nil {
		return err
	}
	fence, putErr := e.runs.PutInput(ctx, id, v.node.Name, signalNode, wire.Input{Value: value, Once: true})
	if putErr != nil && wire.KindOf(putErr) != wire.KindConflict {
		return putErr
	}
	if putErr == nil {
		// The run may have ended since its state was read: then nobody takes the signal.
		if kept, err = e.runs.Inputs(ctx, id, startNode, fence); err != nil {
			return err
		}
		if _, ok := kept[pinned]; !ok {
			return ErrNotBegun
		}
	}
	// Also if there is one already: whoever sent it may not have come to what follows.
	if putErr != nil {
		if fence, err = e.runs.PutInput(ctx, id, startNode, signalled, wire.Input{}); err != nil {
			return err
		}
	}
	if err := e.heed(ctx, id, plan, v, fence); err != nil {
		return err
	}
	if putErr != nil {
		return &wire.Error{Op: "signal", Name: name, Kind: wire.KindConflict, Msg: "run " + string(id) + " has been given it already", Err: putErr}
	}
	return nil
}

// Awaits says whether runs of the plan await a signal of this name: the error lists
// those that they do.
func (p *Plan) Awaits(name string) error {
	_, err := p.signal(name)
	return err
}

// signal returns the node that awaits a signal.
func (p *Plan) signal(name string) (*vertex, error) {
	for _, v := range p.signals {
		if v.node.Signal == name {
			return v, nil
		}
	}
	msg := p.Name() + " awaits no signals"
	if has := p.Signals(); len(has) > 0 {
		msg = fmt.Sprintf("%s awaits no such signal; it awaits %s", p.Name(), strings.Join(has, ", "))
	}
	return nil, &wire.Error{Op: "signal", Name: name, Kind: wire.KindUnknown, Msg: msg}
}

// heed has a node run if the signal, which is stored, was all that it lacked.
func (e *Engine) heed(ctx context.Context, id wire.RunID, plan *Plan, v *vertex, fence uint64) error {
	// What a run began with is read anew: it may have begun again until the signal
	// was stored. One that does so afterwards finds the signal.
	kept, err := e.runs.Inputs(ctx, id, startNode, fence)
	if err != nil {
		return err
	}
	var by caller
	call := wire.Call{Run: id, Name: plan.Name()}
	for name, into := range map[string]any{callerOf: &by, epochOf: &call.Epoch} {
		if in, ok := kept[name]; ok {
			if err := in.Decode(into); err != nil {
				return fmt.Errorf("read what run %s began with: %w", id, err)
			}
		}
	}
	call.Reply, call.Level, call.Depth, call.Digest = by.Reply, by.Level, by.Depth, by.Digest
	r := &run{Engine: e, plan: plan, call: &call, id: call.RunState()}
	todo, past, err := r.signalled(ctx, command{to: v}, fence)
	if again, ok := errors.AsType[restart](err); ok {
		_, err = r.again(ctx, again)
		return err
	}
	// What follows of skipped inputs is for the calls that brought them to do.
	if err == nil && len(todo) > 0 && todo[0].do == dispatch && todo[0].to == v {
		_, err = r.handOn(ctx, todo, past)
	}
	return err
}

// signalled says what follows from a node's signal, which is there.
func (r *run) signalled(ctx context.Context, c command, fence uint64) ([]command, string, error) {
	m := r.meeting(c)
	if !m.few {
		level, members := m.top()
		if there, _, err := r.marked(ctx, &m, level, 0, fence); err != nil || there < members {
			return nil, "", err // whoever brings the last will find the signal
		}
	}
	return r.gather(ctx, &m, c, fence)
}

// addSignal adds to a node's inputs, in a run that has begun again, the signal that
// the run was given: it is of the run, however often that begins.
func (r *run) addSignal(ctx context.Context, v *vertex, fence uint64, inputs map[string]wire.Input) error {
	of, err := r.runs.Inputs(ctx, r.call.Run, v.node.Name, fence)
	if in, ok := of[signalNode]; ok {
		inputs[signalNode] = in
	}
	return err
}

// keepsAtOnce says whether the run's beginning is stored before anything else: signals
// may come at any time, and a run inside of another claims its beginning.
func (r *run) keepsAtOnce() bool { return len(r.plan.signals) > 0 || wire.IsContained(r.call.Run) }

// keepAtOnce stores what such a run began with.
func (r *run) keepAtOnce(ctx context.Context) error {
	if r.call.Node != "" || !r.keepsAtOnce() {
		return nil
	}
	if r.call.Epoch > 0 {
		if err := r.keep(ctx, r.call.Run, map[string]wire.Input{epochOf: {Value: jsonOf(r.call.Epoch)}}); err != nil {
			return err
		}
	}
	kept := r.began()
	kept[callerOf] = wire.Input{Value: jsonOf(caller{Reply: r.call.Reply, Level: r.call.Level, Depth: r.call.Depth, Digest: r.call.Digest})}
	return r.keep(ctx, r.id, kept)
}
