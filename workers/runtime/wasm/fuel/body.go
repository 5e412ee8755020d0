package fuel

// A writer writes functions with the points that a planner has found.
//
// A look has its host called where that is seldom, and an engine still keeps
// everything that lives across a call in memory. In a loop that calls nothing else
// that is most of the cost. So such a loop becomes two:
//
//	local = fuel
//	loop                       // the outer one, once for each slice
//	  if local < 0 { fuel = local; refill(); local = fuel }
//	  loop                     // the loop as it was
//	    if local < 0 { continue outer }
//	    local -= cost
//	    ...
//	  end
//	end
//	fuel = local
//
// Its variables, and the fuel itself, then stay in registers. Of a tight loop's time
// that is a tenth more than without fuel, where it was up to twice as much.
//
// Where an if is written as one with nothing to do but an else, that has the engine
// put the usual way first.
type writer struct {
	m       *module
	out     []byte
	counter uint32 // the global
	own     uint32 // a local that is free
	bulks   *bulks

	points []point
	frames []level
	// region is the frame within which the fuel is in the local; 0 is none.
	region int
}

// A level is a frame of the function as it was.
type level struct {
	twice bool // a loop that has become two
	more  int  // how many frames there are now that weren't, up to this one
	bare  bool // a branch to it takes no values
}

// function writes a function's body.
func (w *writer) function(f *function, points []point) {
	w.points, w.frames, w.region = points, w.frames[:0], 0
	w.own = uint32(f.locals) //nolint:gosec // maxLocals at most
	list := &reader{b: f.declared}
	switch {
	case f.bulk: // and a local of its own
		w.out = added(w.out, list, []byte{1, typeI64}, []byte{1, typeI32})
	case len(points) > 0:
		w.out = added(w.out, list, []byte{1, typeI64})
	default:
		w.out = append(w.out, f.declared...)
	}
	w.push(false, len(w.m.types[f.kind].results) == 0)
	code := *f.body
	for s := (scope{w.m, f.locals, 1}); s.labels > 0; {
		in := code.instruction(&s)
		if p := w.due(in.start, false); p != nil {
			w.take(p)
		}
		w.instruction(&in, &s)
	}
	if len(w.points) > 0 { // which would be ours to mend
		code.fail("a function that can't be metered")
	}
}

// due returns the point at a place, if there is one.
func (w *writer) due(at int, loop bool) *point {
	if len(w.points) == 0 || w.points[0].at != at || w.points[0].loop != loop {
		return nil
	}
	p := &w.points[0]
	w.points = w.points[1:]
	return p
}

func (w *writer) push(twice, bare bool) {
	l := level{twice: twice, bare: bare}
	if n := len(w.frames); n > 0 {
		l.more = w.frames[n-1].more
	}
	if twice {
		l.more++
	}
	w.frames = append(w.frames, l)
}

func (w *writer) instruction(in *instruction, s *scope) {
	switch in.op {
	case opBlock, opIf:
		s.labels++
		_, results := w.m.arity(in.a)
		w.push(false, results == 0)
		w.out = append(w.out, in.raw...)
	case opLoop:
		s.labels++
		w.loop(in)
	case opEnd:
		s.labels--
		w.end()
	case opBr, opBrIf:
		w.branch(in)
	case opBrTable:
		w.table(in)
	case opReturn, opReturnCall, opReturnCallIndirect:
		if w.region > 0 {
			w.back()
		}
		w.out = w.m.copied(w.out, in)
	case opBulk:
		w.many(in)
	default:
		w.out = w.m.copied(w.out, in)
	}
}

// loop writes the head of a loop.
func (w *writer) loop(in *instruction) {
	p := w.due(in.end, true)
	params, _ := w.m.arity(in.a)
	if p == nil || p.calls || params > 0 {
		w.push(false, params == 0)
		w.out = append(w.out, in.raw...)
		if p != nil {
			w.take(p)
		}
		return
	}
	if w.region == 0 {
		w.value()
		w.region = len(w.frames)
		w.set()
	}
	w.push(true, true)
	w.out = append(w.out, in.raw...)
	w.value()
	w.out = append(w.out, opI64Const, 0, opI64LtS, opIf, typeNone)
	w.back()
	w.out = uleb(append(w.out, opCall), w.m.refill())
	w.out = uleb(append(w.out, opGlobalGet), w.counter)
	w.set()
	w.out = append(append(w.out, opEnd), in.raw...)
	w.value()
	w.out = append(w.out, opI64Const, 0, opI64GeS, opIf, typeNone, opElse, opBr, 2, opEnd)
	w.less(p.cost)
	w.set()
}

func (w *writer) end() {
	last := len(w.frames) - 1
	if w.frames[last].twice {
		w.out = append(w.out, opEnd)
	}
	w.out = append(w.out, opEnd)
	if w.region > 0 && w.region == last {
		w.back()
		w.region = 0
	}
	w.frames = w.frames[:last]
}

// leaves says whether a branch leads out of where the fuel is in the local.
func (w *writer) leaves(label uint32) bool { return len(w.frames)-1-int(label) < w.region }

func (w *writer) branch(in *instruction) {
	label := w.label(in.a)
	if w.leaves(in.a) {
		if in.op == opBrIf && w.frames[len(w.frames)-1-int(in.a)].bare {
			w.out = append(w.out, opIf, typeNone)
			w.back()
			w.out = append(uleb(append(w.out, opBr), label+1), opEnd)
			return
		}
		w.back()
	}
	w.out = uleb(append(w.out, in.op), label)
}

func (w *writer) table(in *instruction) {
	labels := reader{b: in.raw, pos: 1}
	n := labels.length()
	out := uleb([]byte{opBrTable}, uint32(n)) //nolint:gosec // a length
	leaves := false
	for range n + 1 {
		label := labels.uleb()
		leaves = leaves || w.leaves(label)
		out = uleb(out, w.label(label))
	}
	if leaves {
		w.back()
	}
	w.out = append(w.out, out...)
}

// label is what a label is now.
func (w *writer) label(l uint32) uint32 {
	last := len(w.frames) - 1
	return l + uint32(w.frames[last].more-w.frames[last-int(l)].more) //nolint:gosec // not negative
}

// many writes an instruction that may work on a lot.
func (w *writer) many(in *instruction) {
	if !in.helped() {
		w.out = append(w.out, in.raw...)
		return
	}
	at := w.bulks.at(in)
	if !in.inline() {
		w.out = uleb(append(w.out, opCall), w.bulks.function(at))
		return
	}
	w.out = uleb(append(w.out, opLocalTee), w.own+1)
	w.out = uleb(append(w.out, opLocalGet), w.own+1)
	w.out = append(sleb(append(w.out, opI32Const), small), opI32GtU)
	w.out = sleb(append(w.out, opIf), int64(w.bulks.kind(at)))
	w.out = uleb(append(w.out, opCall), w.bulks.function(at))
	w.out = append(append(append(w.out, opElse), in.raw...), opEnd)
}

// take writes a point.
func (w *writer) take(p *point) {
	w.less(p.cost)
	if p.look {
		w.check()
	} else {
		w.set()
	}
}

// check sets the fuel to what is on the stack, and looks at it.
func (w *writer) check() {
	w.tee()
	w.out = append(w.out, opI64Const, 0, opI64GeS, opIf, typeNone, opElse)
	if w.region > 0 {
		w.back()
	}
	w.out = uleb(append(w.out, opCall), w.m.refill())
	if w.region > 0 {
		w.out = uleb(append(w.out, opGlobalGet), w.counter)
		w.set()
	}
	w.out = append(w.out, opEnd)
}

// less leaves the fuel less a cost on the stack.
func (w *writer) less(cost int) {
	w.value()
	w.out = append(sleb(append(w.out, opI64Const), int64(cost)), opI64Sub)
}

// value leaves the fuel on the stack.
func (w *writer) value() {
	if w.region > 0 {
		w.out = uleb(append(w.out, opLocalGet), w.own)
	} else {
		w.out = uleb(append(w.out, opGlobalGet), w.counter)
	}
}

// set sets the fuel to what is on the stack.
func (w *writer) set() {
	if w.region > 0 {
		w.out = uleb(append(w.out, opLocalSet), w.own)
	} else {
		w.out = uleb(append(w.out, opGlobalSet), w.counter)
	}
}

// tee sets it, too, and leaves it there.
func (w *writer) tee() {
	w.out = uleb(append(w.out, opLocalTee), w.own)
	if w.region == 0 {
		w.out = uleb(append(w.out, opGlobalSet), w.counter)
		w.out = uleb(append(w.out, opLocalGet), w.own)
	}
}

// back writes the local back to the counter.
func (w *writer) back() {
	w.out = uleb(append(w.out, opLocalGet), w.own)
	w.out = uleb(append(w.out, opGlobalSet), w.counter)
}
