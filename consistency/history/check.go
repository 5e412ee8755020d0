package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Violation is a read that the level forbids.
type Violation struct {
	Level      string
	Key        string
	Run        string
	Worker     string
	Message    string
	Executions []string // those that one has to look at, the reader first
}

// String says what was read, and why it is wrong.
func (v Violation) String() string {
	return fmt.Sprintf("%s: run %s read %s on %s: %s", v.Level, v.Run, v.Key, v.Worker, v.Message)
}

// Check returns the reads that a level forbids; every level but the four that
// promise something allows all.
//
//   - repeatable: within a run, a read returns the run's own latest write of the
//     key, else what every other such read of the key returned.
//   - causal-key: within a run, a key never goes back; and a version isn't shown
//     without one that was stored before its writer began, and that nobody
//     replaced.
//   - causal: and on one worker, a read isn't older than what anything shown there
//     before depends on.
//   - session-causal: causal-key, and within a run, on whichever workers, a read
//     isn't older than what anything shown to it before depends on.
func Check(level string, h *History) []Violation {
	var found []Violation
	switch level {
	case "repeatable":
		found = pastsOf(h).repeatable()
	case "causal-key":
		found = pastsOf(h).causalKey(level)
	case "causal":
		p := pastsOf(h)
		found = append(p.causalKey(level), p.workers(level)...)
	case "session-causal":
		p := pastsOf(h)
		found = append(p.causalKey(level), p.sessions(level)...)
	}
	slices.SortStableFunc(found, func(a, b Violation) int { return cmp.Compare(len(a.Executions), len(b.Executions)) })
	return found
}

// Levels are the levels that Check holds a history to.
func Levels() []string { return []string{"repeatable", "causal-key", "causal", "session-causal"} }

// Anomalies counts, for a history of any level, the reads that each stronger
// level forbids: reads of one key by one execution, each once.
func Anomalies(h *History) map[string]int {
	counts := make(map[string]int)
	for _, level := range Levels() {
		seen := make(map[string]bool)
		for _, v := range Check(level, h) {
			seen[v.Executions[0]+" "+v.Key] = true
		}
		counts[level] = len(seen)
	}
	return counts
}

func violation(level string, e *Execution, o Op, others []string, format string, args ...any) Violation {
	return Violation{
		Level: level, Key: o.Key, Run: e.Run, Worker: e.Worker, Message: fmt.Sprintf(format, args...),
		Executions: append([]string{e.ID}, others...),
	}
}

// repeatable looks at each run by itself.
func (p *pasts) repeatable() (found []Violation) {
	for _, out := range p.history.Outcomes {
		first := make(map[string]*Execution) // who read a key first, as the run had it
		shown := make(map[string]string)
		for _, id := range out.Final {
			e := p.executions[id]
			if e == nil {
				continue
			}
			before := p.upstream(e)
			for i, o := range e.Ops {
				if o.Write != "" {
					continue
				}
				if own := p.ownWrites(e, i, before); len(own) > 0 {
					if !slices.ContainsFunc(o.Read, func(id string) bool { return slices.Contains(own, id) }) {
						found = append(found, violation("repeatable", e, o, nil, "shown %v, and not what the run itself had written: %v", o.Read, own))
					}
					continue
				}
				text := strings.Join(slices.Sorted(slices.Values(o.Read)), ",")
				if by := first[o.Key]; by == nil {
					first[o.Key], shown[o.Key] = e, text
				} else if shown[o.Key] != text {
					found = append(found, violation("repeatable", e, o, []string{by.ID}, "shown %q, where %s of the same run was shown %q", text, by.ID, shown[o.Key]))
				}
			}
		}
	}
	return found
}

// ownWrites returns the run's own latest writes of the key of an execution's i-th
// operation: its own, or else those upstream that none further down replaced.
func (p *pasts) ownWrites(e *Execution, i int, before map[*Execution]bool) []string {
	key := e.Ops[i].Key
	for _, o := range slices.Backward(e.Ops[:i]) {
		if o.Key == key && o.Write != "" {
			return []string{o.Write}
		}
	}
	last := make(map[*Execution]string)
	for up := range before {
		for _, o := range up.Ops {
			if o.Key == key && o.Write != "" {
				last[up] = o.Write
			}
		}
	}
	var own []string
	for up, id := range last {
		replaced := false
		for other := range last {
			replaced = replaced || other != up && p.upstream(other)[up]
		}
		if !replaced {
			own = append(own, id)
		}
	}
	slices.Sort(own)
	return own
}

// causalKey looks at each key by itself.
func (p *pasts) causalKey(level string) (found []Violation) {
	for i := range p.history.Executions {
		e := &p.history.Executions[i]
		if !p.final[e.ID] {
			continue
		}
		before := p.upstream(e)
		for i, o := range e.Ops {
			if o.Write != "" {
				continue
			}
			found = append(found, p.goesBack(level, e, i, before)...)
			found = append(found, p.loses(level, e, o)...)
		}
	}
	return found
}

// goesBack finds what the run was shown of the key, or wrote to it, before, and
// that the execution's i-th operation is older than.
func (p *pasts) goesBack(level string, e *Execution, i int, before map[*Execution]bool) (found []Violation) {
	read := e.Ops[i]
	look := func(by *Execution, ops []Op) {
		for _, o := range ops {
			if o.Key != read.Key {
				continue
			}
			for _, id := range append([]string{o.Write}, o.Read...) {
				if n, ok := p.numbers[id]; ok && !p.shows(read.Read, n) && p.older(read.Read, n) {
					found = append(found, violation(level, e, read, []string{by.ID}, "shown %v, which is older than %s, which %s had", read.Read, id, by.ID))
				}
			}
		}
	}
	for up := range before {
		look(up, up.Ops)
	}
	look(e, e.Ops[:i])
	return found
}

// loses finds versions that were stored when the writer of what was shown began,
// that nobody replaced, and that were not shown.
func (p *pasts) loses(level string, e *Execution, o Op) (found []Violation) {
	for _, n := range p.byKey[o.Key] {
		u := &p.versions[n]
		if p.replaced.has(n) || !p.final[u.writer.ID] || p.shows(o.Read, n) {
			continue
		}
		for _, id := range o.Read {
			v, ok := p.numbers[id]
			if ok && p.ended[u.writer.Run] < p.versions[v].writer.Start {
				found = append(found, violation(level, e, o, []string{u.writer.ID, p.versions[v].writer.ID},
					"shown %v, without what %s had written before %s began, and nobody had replaced", o.Read, u.writer.ID, p.versions[v].writer.ID))
				break
			}
		}
	}
	return found
}

// workers looks at each worker by itself: what an execution was shown that ended
// before another began is what that one must not be behind.
func (p *pasts) workers(level string) (found []Violation) {
	on := make(map[string][]*Execution)
	for i := range p.history.Executions {
		e := &p.history.Executions[i]
		on[e.Worker] = append(on[e.Worker], e)
	}
	for _, began := range on {
		ended := slices.Clone(began)
		slices.SortFunc(began, func(a, b *Execution) int { return cmp.Compare(a.Start, b.Start) })
		slices.SortFunc(ended, func(a, b *Execution) int { return cmp.Compare(a.End, b.End) })
		shown, next := p.empty(), 0
		for _, e := range began {
			for ; next < len(ended) && ended[next].End < e.Start; next++ {
				for _, o := range ended[next].Ops {
					p.learn(shown, p.others(ended[next], o.Read))
				}
			}
			if p.final[e.ID] {
				found = append(found, p.cut(level, e, slices.Clone(shown))...)
			}
		}
	}
	return found
}

// others returns what an execution was shown of other runs: its own run's writes
// may not be stored yet, and be shown to nobody else.
func (p *pasts) others(e *Execution, read []string) []string {
	return slices.DeleteFunc(slices.Clone(read), func(id string) bool {
		n, ok := p.numbers[id]
		return ok && p.versions[n].writer.Run == e.Run
	})
}

// sessions looks at each run by itself, across workers.
func (p *pasts) sessions(level string) (found []Violation) {
	for i := range p.history.Executions {
		e := &p.history.Executions[i]
		if !p.final[e.ID] {
			continue
		}
		known := p.empty()
		for up := range p.upstream(e) {
			known.addAll(p.known[up.ID])
		}
		found = append(found, p.cut(level, e, known)...)
	}
	return found
}

// cut finds the reads of an execution that are behind what is known, or what it
// was shown itself by then.
func (p *pasts) cut(level string, e *Execution, known set) (found []Violation) {
	for _, o := range e.Ops {
		if o.Write != "" {
			continue
		}
		for _, n := range p.byKey[o.Key] {
			if known.has(n) && !p.shows(o.Read, n) && p.older(o.Read, n) {
				w := p.versions[n].writer
				found = append(found, violation(level, e, o, []string{w.ID}, "shown %v, which is older than what %s wrote, on which something shown before depends", o.Read, w.ID))
				break
			}
		}
		p.learn(known, o.Read)
	}
	return found
}

// Shrink returns a small part of a history that violates the level as well: no
// execution of it can be left out. It is nil if nothing is violated.
func Shrink(level string, h *History) *History {
	found := Check(level, h)
	if len(found) == 0 {
		return nil
	}
	small := h.closure(found[0].Executions)
	if len(Check(level, small)) == 0 {
		small = h // it takes more than what is named: all of it, then
	}
	for i := 0; i < len(small.Executions); {
		less := &History{Executions: slices.Delete(slices.Clone(small.Executions), i, i+1), Outcomes: small.Outcomes}
		if len(Check(level, less)) > 0 {
			small = less
		} else if i++; i > 200 { // good enough for a person
			break
		}
	}
	return small
}

// closure returns the executions, all that they depend on, and their outcomes.
func (h *History) closure(ids []string) *History {
	p := pastsOf(h)
	keep := make(map[string]bool)
	var visit func(id string)
	visit = func(id string) {
		e := p.executions[id]
		if e == nil || keep[id] {
			return
		}
		keep[id] = true
		for _, up := range e.Upstream {
			visit(up)
		}
		for _, o := range e.Ops {
			for _, read := range o.Read {
				if n, ok := p.numbers[read]; ok {
					visit(p.versions[n].writer.ID)
				}
			}
		}
	}
	for _, id := range ids {
		visit(id)
	}
	small := new(History)
	runs := make(map[string]bool)
	for _, e := range h.Executions {
		if keep[e.ID] {
			small.Executions = append(small.Executions, e)
			runs[e.Run] = true
		}
	}
	for _, o := range h.Outcomes {
		if runs[o.Run] {
			small.Outcomes = append(small.Outcomes, o)
		}
	}
	return small
}
