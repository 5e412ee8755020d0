package fuel

// A writer writes the code of one function.
type writer struct {
	m     *module
	f     *function
	costs []uint64
	out   []byte
	depth uint64 // of blocks that are open, without our own
	loop  int    // the last one that has begun
}

// begin opens a block around the function's code, so that all ways out of it lead
// to the end of the block, after which the counter is written back. It takes the
// place of the function itself as what branches out of all blocks lead to.
func (w *writer) begin() {
	kind := byte(0x40)
	if len(w.f.results) == 1 {
		kind = w.f.results[0]
	}
	w.out = append(w.out, opBlock, kind)
}

func (w *writer) write(in instruction) {
	keeps := w.f.keeps()
	switch in.op {
	case opBlock, opIf, opLoop:
		w.depth++
	case opEnd:
		w.depth-- // below zero at the very end
	case opReturn:
		if keeps {
			w.out = uleb(append(w.out, opBr), w.depth)
			return
		}
	case opCall, opCallIndirect:
		if keeps {
			w.storeCounter()
			w.out = w.m.copied(w.out, in)
			w.loadCounter()
			return
		}
	case opReturnCall, opReturnCallIndirect:
		if keeps {
			w.storeCounter()
		}
	case opMisc:
		if in.bulk {
			w.lookAtLength()
		}
	}
	w.out = w.m.copied(w.out, in)
	if in.op == opLoop {
		w.loop++
		w.look(w.costs[w.loop])
	}
}

// loadCounter copies the counter from its global to the local.
func (w *writer) loadCounter() {
	w.global(0x23) // global.get
	w.local(0x21)  // local.set
}

// storeCounter copies it back.
func (w *writer) storeCounter() {
	w.local(0x20)  // local.get
	w.global(0x24) // global.set
}

func (w *writer) global(op byte) { w.out = uleb(append(w.out, op), w.m.globals) }

func (w *writer) local(op byte) { w.out = uleb(append(w.out, op), uint64(w.f.own)) } //nolint:gosec // an index

// counter puts the counter on the stack.
func (w *writer) counter() {
	if w.f.keeps() {
		w.local(0x20)
	} else {
		w.global(0x23)
	}
}

// look takes a cost from the counter, and asks for more if that was too much.
func (w *writer) look(cost uint64) {
	w.counter()
	w.out = sleb(append(w.out, 0x42), int64(cost)) //nolint:gosec // i64.const; the size of a function
	w.refill()
}

// lookAtLength takes what an instruction costs whose length is on the stack, an
// eighth of that.
func (w *writer) lookAtLength() {
	length := uint64(w.f.own) + 1             //nolint:gosec // an index
	w.out = uleb(append(w.out, 0x22), length) // local.tee
	w.counter()
	w.out = uleb(append(w.out, 0x20), length)  // local.get
	w.out = append(w.out, 0xad, 0x42, 3, 0x88) // i64.extend_i32_u, i64.const 3, i64.shr_u
	w.refill()
}

// refill takes what is on the stack from the counter, which is below it, and asks
// for more if that leaves it below zero.
func (w *writer) refill() {
	w.out = append(w.out, 0x7d) // i64.sub
	if w.f.keeps() {
		w.local(0x22)                                    // local.tee
		w.out = append(w.out, 0x42, 0, 0x53, opIf, 0x40) // i64.const 0, i64.lt_s
		w.storeCounter()
		w.out = uleb(append(w.out, opCall), w.m.imported)
		w.loadCounter()
		w.out = append(w.out, opEnd)
		return
	}
	w.local(0x22)
	w.global(0x24)
	w.local(0x20)
	w.out = append(w.out, 0x42, 0, 0x53, opIf, 0x40)
	w.out = append(uleb(append(w.out, opCall), w.m.imported), opEnd)
}
