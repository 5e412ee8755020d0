package anomalies

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/dagengine"
)

func TestDAGsAreAsThePaperHasThem(t *testing.T) {
	const n, workers = 2000, 3
	nodes, joins, forks, crossings := 0, 0, 0, 0
	for _, d := range (workload{Seed: 7}).dags(n, workers) {
		if _, err := dagengine.Compile(d.graph); err != nil {
			t.Fatalf("%s: %v", d.graph.Name, err)
		}
		in, out, at := map[string]int{}, map[string]int{}, map[string]string{}
		for _, node := range d.graph.Nodes {
			at[node.Name] = node.FunctionName()
		}
		for _, e := range d.graph.Edges {
			in[e.To]++
			out[e.From]++
			if at[e.From] != at[e.To] {
				crossings++
			}
		}
		size, sinks := len(d.graph.Nodes), 0
		for _, node := range d.graph.Nodes {
			if out[node.Name] == 0 {
				sinks++
			}
			if in[node.Name] > 2 {
				t.Fatalf("%s: %d edges into %s", d.graph.Name, in[node.Name], node.Name)
			}
			joins += in[node.Name] / 2
			forks += out[node.Name] / 2
		}
		if size < 2 || size > maxNodes || sinks != 1 || d.longest < 2 || d.longest > size {
			t.Fatalf("%s has %d nodes, %d sinks, %d on its longest path", d.graph.Name, size, sinks, d.longest)
		}
		nodes += size
	}
	if mean := float64(nodes) / n; math.Abs(mean-3) > 0.1 {
		t.Errorf("%.2f nodes on average, want 3", mean)
	}
	if joins < n/10 || forks < n/10 || crossings < n {
		t.Errorf("%d joins, %d forks, %d edges between workers in %d DAGs: want many of each", joins, forks, crossings, n)
	}
}

// What a seed makes is the same in every process, and another seed's is another.
func TestWorkloadFollowsFromTheSeed(t *testing.T) {
	draw := func(seed uint64) (works []work) {
		w := workload{Seed: seed, Keys: 1000, Zipf: 1, Writes: 0.1}
		z := newZipf(w.Keys, w.Zipf)
		for request := range 50 {
			for node := range maxNodes {
				works = append(works, w.work(z, request, node, node%3, node == maxNodes-1))
			}
		}
		return works
	}
	one := draw(1)
	if !reflect.DeepEqual(one, draw(1)) || reflect.DeepEqual(one, draw(2)) {
		t.Error("the keys don't follow from the seed alone")
	}
	for i, w := range one {
		if want := []int{2, 1, 1}[i%maxNodes%3]; len(w.reads) != want {
			t.Errorf("a node with %d edges reads %d keys, want %d", i%maxNodes%3, len(w.reads), want)
		}
		if i%maxNodes == maxNodes-1 && w.write == "" {
			t.Error("a sink writes nothing")
		}
	}
	if a, b := (workload{Seed: 1}).dags(20, 3), (workload{Seed: 1}).dags(20, 3); !reflect.DeepEqual(a, b) {
		t.Error("the DAGs don't follow from the seed")
	}
}

func TestZipf(t *testing.T) {
	const keys, draws = 1000, 200_000
	for _, exponent := range []float64{0.5, 1, 1.5} {
		r, z := rand.New(rand.NewPCG(1, 2)), newZipf(keys, exponent)
		got, sum := make([]float64, keys), 0.0
		for range draws {
			got[z.draw(r)]++
		}
		for i := range keys {
			sum += math.Pow(float64(i+1), -exponent)
		}
		for _, i := range []int{0, 1, 9} {
			want := draws * math.Pow(float64(i+1), -exponent) / sum
			if math.Abs(got[i]-want) > 6*math.Sqrt(want) {
				t.Errorf("exponent %g: key %d drawn %.0f times of %d, want about %.0f", exponent, i, got[i], draws, want)
			}
		}
	}
}

func TestRunIDsNameTheirLevel(t *testing.T) {
	for _, level := range Levels() {
		if got, _, _ := strings.Cut(string(runID(level, 12)), "/"); got != level {
			t.Errorf("run %s reads as of level %q", runID(level, 12), got)
		}
	}
}
