package history

import "slices"

// A set is a set of versions, by number.
type set []uint64

func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }

func (s set) addAll(o set) {
	for i := range o {
		s[i] |= o[i]
	}
}

// A version is one write.
type version struct {
	key    string
	writer *Execution
	past   set   // what its writer knew, itself excluded
	same   []int // this write in all executions of its call, by number
}

// A write belongs to a call, however often the call runs.
type write struct {
	run, node string
	epoch     int
	key       string
	nth       int // of the execution's writes of the key
}

// pasts is a history with what follows from it.
type pasts struct {
	history    *History
	executions map[string]*Execution
	versions   []version
	numbers    map[string]int   // by id
	byKey      map[string][]int // the versions of a key
	known      map[string]set   // by execution: what it knew in the end
	replaced   set              // versions that are in the past of another one of their key
	final      map[string]bool  // executions that made a result
	ended      map[string]int64 // by run: when it ended
}

func pastsOf(h *History) *pasts {
	p := &pasts{
		history: h, executions: make(map[string]*Execution, len(h.Executions)), numbers: make(map[string]int),
		byKey: make(map[string][]int), known: make(map[string]set, len(h.Executions)),
		final: make(map[string]bool), ended: make(map[string]int64, len(h.Outcomes)),
	}
	writes := make(map[write][]int)
	for i := range h.Executions {
		e := &h.Executions[i]
		p.executions[e.ID] = e
		nth := make(map[string]int)
		for _, o := range e.Ops {
			if o.Write != "" {
				n := len(p.versions)
				p.numbers[o.Write] = n
				p.byKey[o.Key] = append(p.byKey[o.Key], n)
				p.versions = append(p.versions, version{key: o.Key, writer: e})
				w := write{e.Run, e.Node, e.Epoch, o.Key, nth[o.Key]}
				writes[w] = append(writes[w], n)
				nth[o.Key]++
			}
		}
	}
	for _, same := range writes {
		for _, n := range same {
			p.versions[n].same = same
		}
	}
	for _, o := range h.Outcomes {
		p.ended[o.Run] = o.End
		for _, id := range o.Final {
			p.final[id] = true
		}
	}
	for i := range h.Executions {
		p.knew(&h.Executions[i])
	}
	p.replaced = p.empty()
	for i := range p.versions {
		for _, j := range p.byKey[p.versions[i].key] {
			switch {
			case !p.versions[i].past.has(j):
			case slices.Contains(p.versions[j].same, i): // a later execution of the same call
				p.replaced.add(j)
			default:
				for _, n := range p.versions[j].same {
					p.replaced.add(n)
				}
			}
		}
	}
	return p
}

func (p *pasts) empty() set { return make(set, (len(p.versions)+63)/64) }

// knew returns what an execution knew in the end, and gives what it wrote a past.
func (p *pasts) knew(e *Execution) set {
	if known, ok := p.known[e.ID]; ok {
		return known // or what it knows so far, where a history bites its tail
	}
	known := p.empty()
	p.known[e.ID] = known
	for _, id := range e.Upstream {
		if up := p.executions[id]; up != nil {
			known.addAll(p.knew(up))
		}
	}
	for _, o := range e.Ops {
		p.learn(known, o.Read)
		if o.Write != "" {
			v := &p.versions[p.numbers[o.Write]]
			v.past = append(set(nil), known...)
			known.add(p.numbers[o.Write])
		}
	}
	return known
}

// learn adds versions that were shown, and their pasts.
func (p *pasts) learn(known set, shown []string) {
	for _, id := range shown {
		n, ok := p.numbers[id]
		if !ok {
			continue // nobody recorded it: nothing is known of its past
		}
		p.knew(p.versions[n].writer)
		if past := p.versions[n].past; past != nil {
			known.addAll(past)
		}
		known.add(n)
	}
}

// upstream returns all executions that came before one in its run.
func (p *pasts) upstream(e *Execution) map[*Execution]bool {
	before := make(map[*Execution]bool)
	var visit func(*Execution)
	visit = func(e *Execution) {
		for _, id := range e.Upstream {
			if up := p.executions[id]; up != nil && !before[up] {
				before[up] = true
				visit(up)
			}
		}
	}
	visit(e)
	return before
}

// shows says whether a read was shown the version, or one that it is before. The version
// stands for its call: another execution of the call will do.
func (p *pasts) shows(read []string, n int) bool {
	for _, id := range read {
		i, ok := p.numbers[id]
		isShown := func(n int) bool { return i == n || p.versions[i].past.has(n) }
		if ok && slices.ContainsFunc(p.versions[n].same, isShown) {
			return true
		}
	}
	return false
}

// older says whether all that a read was shown is before the version.
func (p *pasts) older(read []string, n int) bool {
	for _, id := range read {
		if i, ok := p.numbers[id]; !ok || !p.versions[n].past.has(i) {
			return false
		}
	}
	return true
}
