package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// ideal is a history of runs that came one after another to a store that all
// workers share: it keeps every level. Each run is a chain of nodes, or a node
// that feeds two others.
func ideal(random *rand.Rand, runs, keys int) *History {
	h := new(History)
	now := make(map[string]string) // what each key holds
	var clock int64
	for r := range runs {
		run := fmt.Sprint("r", r)
		out := Outcome{Run: run, Start: clock}
		nodes := 1 + random.IntN(4)
		for n := range nodes {
			clock += 10
			e := Execution{ID: fmt.Sprintf("%s/%d", run, n), Run: run, Worker: fmt.Sprint("w", random.IntN(3)), Start: clock, End: clock + 5}
			if n > 0 {
				e.Upstream = []string{fmt.Sprintf("%s/%d", run, random.IntN(n))}
			}
			for op := range 1 + random.IntN(3) {
				key := fmt.Sprint("k", random.IntN(keys))
				o := Op{Key: key}
				if id := now[key]; id != "" {
					o.Read = []string{id}
				}
				e.Ops = append(e.Ops, o)
				if n == nodes-1 && random.IntN(2) == 0 {
					now[key] = fmt.Sprintf("%s#%d.%d", key, r, op)
					e.Ops = append(e.Ops, Op{Key: key, Write: now[key]})
				}
			}
			h.Executions = append(h.Executions, e)
			out.Final = append(out.Final, e.ID)
		}
		clock += 10
		out.End = clock
		h.Outcomes = append(h.Outcomes, out)
	}
	return h
}

func TestIdealHistoryKeepsEveryLevel(t *testing.T) {
	for seed := range uint64(200) {
		h := ideal(rand.New(rand.NewPCG(seed, 0)), 30, 1+int(seed%7))
		for _, level := range Levels() {
			if found := Check(level, h); len(found) > 0 {
				t.Fatalf("seed %d: %s\n%s", seed, found[0], h)
			}
		}
	}
}

// A read that is shown an older version than the last one is found, where its run
// or worker was shown the last one before.
func TestStaleReadIsFound(t *testing.T) {
	found := map[string]int{}
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		h := ideal(random, 30, 3)
		e := &h.Executions[len(h.Executions)/2+random.IntN(len(h.Executions)/2)]
		for i := range e.Ops {
			if e.Ops[i].Write == "" && len(e.Ops[i].Read) > 0 {
				e.Ops[i].Read = nil // as though the key had never been written
			}
		}
		for _, level := range Levels() {
			bad := Check(level, h)
			if len(bad) > 0 {
				found[level]++
			}
			if small := Shrink(level, h); len(bad) > 0 && (len(Check(level, small)) == 0 || len(small.Executions) > len(h.Executions)) {
				t.Errorf("seed %d: %s shrank to\n%s", seed, level, small)
			}
		}
		// Its worker was shown every key before, since half of the history came first.
		if seen := slices.ContainsFunc(e.Ops, func(o Op) bool { return o.Write == "" }); seen && len(Check("causal", h)) == 0 && len(now(h, e)) == 3 {
			t.Errorf("seed %d: causal allows %s\n%s", seed, e.ID, h)
		}
	}
	for _, level := range Levels() {
		if found[level] < 10 {
			t.Errorf("%s found %d of 400", level, found[level])
		}
	}
}

// now returns the keys of which the execution's worker was shown a version before.
func now(h *History, e *Execution) map[string]bool {
	keys := make(map[string]bool)
	for i := range h.Executions {
		before := &h.Executions[i]
		if before.Worker != e.Worker || before.End >= e.Start {
			continue
		}
		for _, o := range before.Ops {
			if len(o.Read) > 0 {
				keys[o.Key] = true
			}
		}
	}
	return keys
}

func BenchmarkCheck(b *testing.B) {
	h := ideal(rand.New(rand.NewPCG(1, 1)), 4000, 300)
	for b.Loop() {
		for _, level := range Levels() {
			if len(Check(level, h)) > 0 {
				b.Fatal(level)
			}
		}
	}
}
