package anomalies

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"

	"github.com/cloudburst-nats/cloudburst"
)

// A workload is what all processes of an experiment agree on: the same request
// draws the same keys wherever and however often it runs.
type workload struct {
	Seed   uint64  `json:"seed"`
	Keys   int     `json:"keys"`
	Zipf   float64 `json:"zipf"`
	Writes float64 `json:"writes"`
}

// maxNodes is of a DAG.
const maxNodes = 5

// The seed gives many streams of random numbers, so that what one part draws
// doesn't depend on another: one to make the DAGs, one to choose whom to kill, and
// for each request one to choose its DAG and one for each node.
const (
	streamGraphs = math.MaxUint64 - iota
	streamKills
)

func (w workload) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(w.Seed, stream)) }

// streamOf is a request's for one of its nodes; for maxNodes, its own.
func streamOf(request, node int) uint64 { return uint64(request)*(maxNodes+1) + uint64(node) }

// A work is what one execution of a node does: it reads keys, in order, and then
// writes one, unless it is empty.
type work struct {
	reads []string
	write string
}

// work draws the keys of a node in a request. A function has two arguments: what
// the edges don't bring, it reads; but one key at least.
func (w workload) work(z zipf, request, node, edges int, sink bool) work {
	r := w.random(streamOf(request, node))
	key := func() string { return "k" + strconv.Itoa(z.draw(r)) }
	var todo work
	for range max(1, 2-edges) {
		todo.reads = append(todo.reads, key())
	}
	if r.Float64() < w.Writes || sink {
		todo.write = key()
	}
	return todo
}

// A zipf draws numbers from 0, the n-th in proportion to 1/(n+1)^exponent. The
// standard library's needs an exponent over 1.
type zipf struct{ upTo []float64 }

func newZipf(n int, exponent float64) zipf {
	z := zipf{make([]float64, n)}
	sum := 0.0
	for i := range n {
		sum += math.Pow(float64(i+1), -exponent)
		z.upTo[i] = sum
	}
	return z
}

func (z zipf) draw(r *rand.Rand) int {
	return sort.SearchFloat64s(z.upTo, r.Float64()*z.upTo[len(z.upTo)-1])
}

// A dag is one of the experiment's, with what its latency is divided by.
type dag struct {
	graph   *cloudburst.Graph
	longest int // nodes on its longest path
}

// dags returns random DAGs of two to five nodes, three on average, with a single
// sink and no more than two edges into a node, which runs on any of the workers.
func (w workload) dags(n, workers int) []dag {
	r := w.random(streamGraphs)
	all := make([]dag, n)
	for i := range all {
		all[i] = newDAG(r, "mix-"+strconv.Itoa(i), workers)
	}
	return all
}

func newDAG(r *rand.Rand, name string, workers int) dag {
	sizes := [...]int{2, 2, 2, 2, 3, 3, 3, 4, 4, maxNodes} // 3 on average
	n := sizes[r.IntN(len(sizes))]
	g := &cloudburst.Graph{Name: name}
	into := edges(r, n)
	depth := make([]int, n)
	for i := range n {
		with := map[string]json.RawMessage{"node": json.RawMessage(strconv.Itoa(i))}
		if i == n-1 {
			with["sink"] = json.RawMessage("true")
		}
		node := cloudburst.Node{Name: nodeName(i), Function: function(poolOf(r.IntN(workers))), With: with}
		if len(into[i]) == 0 {
			node.As = "request"
		}
		g.Nodes = append(g.Nodes, node)
		for k, from := range into[i] {
			g.Edges = append(g.Edges, cloudburst.Edge{From: nodeName(from), To: nodeName(i), Arg: [...]string{"left", "right"}[k]})
			depth[i] = max(depth[i], depth[from])
		}
		depth[i]++
	}
	return dag{g, depth[n-1]}
}

// edges returns which nodes each of n has edges from. All edges go from lower
// numbers to higher ones. Each node but the last has one, and one in three a
// second: that makes chains, joins, forks and diamonds. There always is a node
// with room for another edge, since each adds two places and takes two at most.
func edges(r *rand.Rand, n int) [][]int {
	into := make([][]int, n)
	for from := n - 2; from >= 0; from-- {
		var room []int
		for to := from + 1; to < n; to++ {
			if len(into[to]) < 2 {
				room = append(room, to)
			}
		}
		r.Shuffle(len(room), func(i, j int) { room[i], room[j] = room[j], room[i] })
		some := 1
		if r.IntN(3) == 0 {
			some = 2
		}
		for _, to := range room[:min(some, len(room))] {
			into[to] = append(into[to], from)
		}
	}
	for _, from := range into {
		slices.Sort(from)
	}
	return into
}

func nodeName(i int) string { return "n" + strconv.Itoa(i) }

// poolOf returns the pool that the i-th worker serves alone, so that what runs
// on it is known, and runs go from worker to worker.
func poolOf(i int) string { return "w" + strconv.Itoa(i) }

func function(pool string) string { return "mix_" + pool }

// namespaceOf returns where a level's keys are.
func namespaceOf(level string) string { return "mix-" + level }

// runID names a request at a level. Whoever sees a message of the run can tell
// the level.
func runID(level string, request int) cloudburst.RunID {
	return cloudburst.RunID(fmt.Sprintf("%s/%d", level, request))
}
