package dagengine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Where several results meet, each that comes asks whether all are there. A few are
// simply read. Of many, none is read before the last has come: beside each result
// there is a mark, which holds its size. Marks are in groups of fanIn. A call that
// completes a group marks that in a group of groups, and so on up to the one at the
// top. So a result costs the same however many there are, and all of them are read
// once, a group at a time.
//
//	<join>.in.<from>                 a result, of a few
//	<join>.<group>.in.<from>         a result, of many
//	<join>.m0.<group>.in.<from>      its mark
//	<join>.m1.<group>.in.<group>     the mark of a complete group of results
//	<join>.m2.…                      and so on
//
// A call reads results, or marks, no older than its own, so that the last one finds all
// of them. If several calls do, the one that claims the meeting reads the many.
const (
	fanIn     = 32
	fewInputs = 8

	// maxGathered bounds what meets at a join, in bytes: an argument can't be larger.
	maxGathered = 64 << 20
)

// A meeting is where the results of several meet.
type meeting struct {
	at    string   // names it
	from  []string // whose results, in order; nil: those of n items
	n     int      // how many there are
	fanIn int
	few   bool // so few that they are read at once
}

// meeting returns where a delivery goes.
func (e *Engine) meeting(c command) meeting {
	m := meeting{at: c.join(), fanIn: e.fanIn}
	if m.n = c.items; c.items == 0 {
		m.from = slices.DeleteFunc(slices.Clone(c.to.feeds), func(from string) bool { return from == signalNode })
		m.n = len(m.from)
	}
	m.few = m.n <= e.few
	return m
}

// values names where the result of the i-th waits.
func (m *meeting) values(i int) string {
	if m.few {
		return m.at
	}
	return m.at + "." + strconv.Itoa(i/m.fanIn)
}

func (m *meeting) marks(level, group int) string {
	return fmt.Sprintf("%s.m%d.%d", m.at, level, group)
}

// top returns the level of the group that holds all.
func (m *meeting) top() (level, members int) {
	for members = m.n; members > m.fanIn; level++ {
		members = (members + m.fanIn - 1) / m.fanIn
	}
	return level, members
}

// bring stores a result where the others are. complete says that they are all there
// and that this call is the one to go on; fence, from when on they are.
func (r *run) bring(ctx context.Context, m *meeting, c command, in wire.Input) (complete bool, fence uint64, err error) {
	if m.few {
		fence, err = r.runs.PutInput(ctx, r.id, m.at, c.from, in)
		return err == nil, fence, err
	}
	i := c.item
	if m.from != nil {
		i = slices.Index(m.from, c.from)
	}
	if _, err = r.runs.PutInput(ctx, r.id, m.values(i), c.from, in); err == nil {
		fence, err = r.mark(ctx, m, 0, i, len(in.Body)) // whoever sees it can read the result
	}
	if err != nil {
		return false, 0, err
	}
	return r.climb(ctx, m, i, fence)
}

// mark notes that the i-th member of a level is there.
func (r *run) mark(ctx context.Context, m *meeting, level, i, bytes int) (uint64, error) {
	return r.runs.PutInput(ctx, r.id, m.marks(level, i/m.fanIn), strconv.Itoa(i), wire.Input{Value: jsonOf(bytes)})
}

// climb marks every group that is complete now, from the one of the i-th result on.
func (r *run) climb(ctx context.Context, m *meeting, i int, fence uint64) (complete bool, last uint64, err error) {
	for level, members := 0, m.n; ; level++ {
		group := i / m.fanIn
		there, bytes, err := r.marked(ctx, m, level, group, fence)
		if err != nil || there < min(m.fanIn, members-group*m.fanIn) {
			return false, 0, err
		}
		if bytes > maxGathered {
			return false, 0, tooMuch(m, bytes)
		}
		if members <= m.fanIn {
			owner, err := r.runs.Claim(ctx, r.id, gatherNode+m.at, r.call.Seq, false)
			return err == nil && owner == r.call.Seq, fence, err
		}
		i, members = group, (members+m.fanIn-1)/m.fanIn
		if fence, err = r.mark(ctx, m, level+1, i, bytes); err != nil {
			return false, 0, err
		}
	}
}

// marked counts what is there of a group, and its bytes.
func (r *run) marked(ctx context.Context, m *meeting, level, group int, fence uint64) (there, bytes int, err error) {
	marks, err := r.runs.Inputs(ctx, r.id, m.marks(level, group), fence)
	for _, mark := range marks {
		var n int
		if err == nil {
			err = mark.Decode(&n)
		}
		bytes += n
	}
	return len(marks), bytes, err
}

func tooMuch(m *meeting, bytes int) error {
	return &wire.Error{
		Op: "gather", Name: m.at, Kind: wire.KindTooLarge,
		Msg: fmt.Sprintf("%d results have %d bytes together, and %d is the most: store them under keys, and return the keys", m.n, bytes, maxGathered),
	}
}

// all reads the results, which are all there. Of a few some may be missing.
func (r *run) all(ctx context.Context, m *meeting, fence uint64) (map[string]wire.Input, error) {
	if m.few {
		return r.runs.Inputs(ctx, r.id, m.at, fence)
	}
	var mu sync.Mutex // guards inputs
	inputs := make(map[string]wire.Input, m.n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // groups under way: up to 8 MiB each
	for i := 0; i < m.n; i += m.fanIn {
		g.Go(func() error {
			group, err := r.runs.Inputs(ctx, r.id, m.values(i), fence)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(inputs, group)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(inputs) < m.n { // the run has ended in this very moment; or somebody removed them
		return nil, &wire.Error{Op: "gather", Name: m.at, Kind: wire.KindUnavailable, Msg: fmt.Sprintf("of %d results %d can be read; it is tried again", m.n, len(inputs))}
	}
	return inputs, nil
}

// deliver stores an input and does what follows from those that are there.
func (r *run) deliver(ctx context.Context, c command, past string) (Outcome, error) {
	m := r.meeting(c)
	complete, fence, err := r.bring(ctx, &m, c, wire.Input{Value: c.value, Past: past, Skipped: c.skipped})
	if err != nil || !complete {
		return Outcome{}, err
	}
	// Several calls may find that all inputs are there: the dispatch is one all the
	// same, and one of them has the end of the run to itself.
	todo, past, err := r.gather(ctx, &m, c, fence)
	if err != nil || len(todo) == 0 {
		return Outcome{}, err
	}
	return r.handOn(ctx, todo, past)
}

// gather says what follows from the inputs of a node that are there, and what the
// run has seen by then.
func (r *run) gather(ctx context.Context, m *meeting, c command, fence uint64) (todo []command, past string, err error) {
	inputs, err := r.all(ctx, m, fence)
	if err == nil && c.items == 0 && c.to.node.Signal != "" && (r.call.Epoch > 0 || !m.few) {
		err = r.addSignal(ctx, c.to, fence, inputs)
	}
	if err != nil {
		return nil, "", err
	}
	if c.items > 0 {
		todo, err = r.plan.gatheredItems(c.to, c.items, inputs)
	} else {
		todo, err = r.plan.gathered(c.to, inputs)
	}
	if err != nil || len(todo) == 0 {
		return nil, "", err
	}
	pasts := make([]string, 0, len(inputs))
	for i := range m.n {
		from := strconv.Itoa(i)
		if m.from != nil {
			from = m.from[i]
		}
		pasts = append(pasts, inputs[from].Past)
	}
	past, err = r.pasts.Join(pasts)
	return todo, past, err
}
