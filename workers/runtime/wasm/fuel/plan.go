package fuel

// What fuel costs, and where it is taken.
const (
	// freeSize is how many units a function has at most that isn't counted in itself
	// but where it is called.
	freeSize = 32
	// callWeight is what a call costs without what is called, and indirectWeight what
	// it costs if that isn't known and may be a free function.
	callWeight     = 4
	indirectWeight = 2*callWeight + freeSize
	// hostWeight is what an instruction costs for which an engine leaves the guest:
	// 25 to 70 ns, where ten units or so are one.
	hostWeight = 256
	// tolerance is how many units that may not be executed a point covers. More is
	// less exact; less is more points: with none of it, Go programs take a tenth longer.
	tolerance = 32
	// stretch is the longest way between two looks, in units; and tail what of that
	// is after a call: a deep recursion ends with one tail after another.
	stretch, tail = 4096, 256
	// lead is how many units a function that doesn't call may have before its first
	// look, if it has one. They count where it is called.
	lead = 64
	// piece is the most that is added up before it is decided which point covers it.
	piece = 1024
)

// weight is what an instruction costs, of a call the call alone.
func weight(in *instruction) int {
	switch in.op {
	case opNop, opBlock, opLoop, opElse, opEnd, opDrop:
		return 0
	case opCall, opReturnCall:
		return callWeight
	case opCallIndirect, opReturnCallIndirect:
		return indirectWeight
	case opMemoryGrow, opRefFunc:
		return hostWeight
	case opBulk:
		switch {
		case in.inline():
			return bulkWeight
		case in.helped():
			return callWeight
		case in.sub == bulkDataDrop, in.sub == bulkElemDrop:
			return hostWeight
		}
	}
	return 1
}

// A point is a place in a function where fuel is taken.
type point struct {
	at    int // before the instruction there
	cost  int
	spare int  // what of the cost may not be executed
	look  bool // and the counter looked at
	loop  bool // at the head of a loop
	calls bool // that calls
}

// A planner decides which points a function has. It goes through the code once and
// adds up pieces of it that are executed from beginning to end. A piece is covered
// by a point that all ways to it lead through, and that is passed again if it is
// executed again: the last such, if that covers little that may not be executed;
// or one of its own.
type planner struct {
	m      *module
	points []point
	frames []frame

	point int  // that may cover the piece
	sure  bool // the piece is executed whenever that point is
	at    int  // where the piece begins
	units int  // of the piece
	way   int  // the longest to the piece from a look
	dead  bool // there is none
}

// A frame is a block, loop or if that is open.
type frame struct {
	op    byte
	point int  // before it
	sure  bool // see planner
	leap  int  // the outermost frame to whose label a branch leads from within
	head  int  // the point of a loop
	calls bool // something is called within
	way   int  // the longest to its end by a branch; -1 is none
	begin int  // the longest to its beginning
	dead  bool // it can't be reached
}

// plan returns the points of a function in their order. They are good until the
// next call.
func (p *planner) plan(f *function) []point {
	p.points, p.frames = p.points[:0], p.frames[:0]
	if f.free() {
		return nil
	}
	code := *f.body
	p.at, p.units, p.dead = code.pos, 0, false
	p.look(code.pos, false)
	if !f.calls {
		p.points[0].look, p.way = false, stretch-lead // it can't recurse, and its loops look
	}
	p.open(opBlock)
	for s := (scope{p.m, f.locals, 1}); s.labels > 0; {
		in := code.instruction(&s)
		if !p.dead {
			p.units += weight(&in) + p.called(&in)
		}
		p.step(&in, &s)
		if p.units >= piece {
			p.settle(in.end)
		}
	}
	return p.points
}

// look begins a point that all that follows is measured from.
func (p *planner) look(at int, loop bool) {
	p.points = append(p.points, point{at: at, cost: 1, look: true, loop: loop})
	p.point, p.sure, p.way = len(p.points)-1, true, 0
}

func (p *planner) step(in *instruction, s *scope) {
	switch in.op {
	case opBlock, opLoop, opIf:
		s.labels++
		p.settle(in.end)
		p.open(in.op)
		if in.op == opLoop && !p.dead {
			p.look(in.end, true)
			p.frames[len(p.frames)-1].head = p.point
		}
		p.sure = p.sure && in.op != opIf
	case opElse:
		p.settle(in.end)
		p.otherwise()
	case opEnd:
		s.labels--
		p.settle(in.end)
		p.close()
	case opBrIf:
		p.settle(in.end)
		p.branch(in.a)
		p.sure = false
	case opBr, opBrTable, opReturn, opUnreachable, opReturnCall, opReturnCallIndirect:
		p.settle(in.end)
		p.leave(in, s)
		p.dead = true
	case opCall, opCallIndirect, opBulk:
		if in.op == opBulk && !in.helped() || p.called(in) > 0 {
			return
		}
		p.settle(in.end)
		p.way = max(p.way, stretch-tail)
		if p.leads(in) {
			p.way += lead
		}
		p.frames[len(p.frames)-1].calls = true
	}
}

// called is what the called function costs, if it isn't counted in itself.
func (p *planner) called(in *instruction) int {
	if in.op == opCall || in.op == opReturnCall {
		if at := int(in.a) - p.m.imported; at >= 0 && p.m.functions[at].free() {
			return p.m.functions[at].size
		}
	}
	return 0
}

// leads says whether what is called may begin without a look.
func (p *planner) leads(in *instruction) bool {
	at := int(in.a) - p.m.imported
	return in.op == opCallIndirect || in.op == opCall && at >= 0 && !p.m.functions[at].calls
}

// settle decides what covers the piece, which ends here.
func (p *planner) settle(next int) {
	if p.units > 0 && !p.dead {
		last := &p.points[p.point]
		switch {
		case p.way+p.units > stretch && last.at == p.at:
			last.look, p.way = true, 0
			last.cost += p.units
		case p.way+p.units > stretch:
			p.look(p.at, false)
			p.points[p.point].cost += p.units
		case p.sure:
			last.cost += p.units
		case last.spare+p.units <= tolerance:
			last.cost += p.units
			last.spare += p.units
		default:
			p.points = append(p.points, point{at: p.at, cost: 1 + p.units})
			p.point, p.sure = len(p.points)-1, true
		}
		p.way += p.units
	}
	p.at, p.units = next, 0
}

func (p *planner) open(op byte) {
	p.frames = append(p.frames, frame{op: op, point: p.point, sure: p.sure, leap: len(p.frames), way: -1, begin: p.way, dead: p.dead})
}

// otherwise goes on at the else of an if.
func (p *planner) otherwise() {
	f := &p.frames[len(p.frames)-1]
	if !p.dead {
		f.way = max(f.way, p.way)
	}
	f.op = opElse
	p.point, p.sure, p.way, p.dead = f.point, false, f.begin, f.dead
}

// close goes on after the end of a frame. All ways there lead through what was
// before the frame, and through the head of a loop.
func (p *planner) close() {
	at := len(p.frames) - 1
	f := p.frames[at]
	p.frames = p.frames[:at]
	if p.dead {
		p.way = -1
	}
	if f.op == opIf { // without else
		p.way = max(p.way, f.begin)
	}
	if f.op != opLoop {
		p.way = max(p.way, f.way)
	}
	p.point, p.sure, p.dead = f.point, f.sure && f.leap >= at, f.dead || p.way < 0
	if f.op == opLoop && !f.dead {
		p.points[f.head].calls = f.calls
	}
	if at > 0 {
		outer := &p.frames[at-1]
		outer.leap, outer.calls = min(outer.leap, f.leap), outer.calls || f.calls
	}
}

// branch is a way to a label. What it leads past isn't sure to be executed.
func (p *planner) branch(label uint32) {
	if p.dead {
		return
	}
	last := len(p.frames) - 1
	to := last - int(label)
	p.frames[to].way = max(p.frames[to].way, p.way)
	p.frames[last].leap = min(p.frames[last].leap, to)
}

// leave is where a way ends that goes on nowhere, or elsewhere.
func (p *planner) leave(in *instruction, s *scope) {
	switch in.op {
	case opBr:
		p.branch(in.a)
	case opBrTable:
		labels := reader{b: in.raw, pos: 1}
		for range labels.length() + 1 {
			p.branch(labels.uleb())
		}
	default:
		p.branch(uint32(s.labels) - 1) //nolint:gosec // it is open
	}
}
