package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestGrowthMeasuresEverySize(t *testing.T) {
	cfg := GrowthConfig{Functions: []int{2, 5}, Backlog: []int{0, 30}, Keys: []int{3, 300}, Calls: 8, JSON: true, Store: t.TempDir()}
	var out bytes.Buffer
	if err := Growth(t.Context(), cfg, &out); err != nil {
		t.Fatal(err)
	}
	type key struct {
		name string
		size int
		what string
	}
	got := make(map[key]GrowthRow)
	for dec := json.NewDecoder(&out); dec.More(); {
		var r GrowthRow
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got[key{r.Case, r.Size, r.What}] = r
		if r.Value <= 0 {
			t.Errorf("row %+v is not measured", r)
		}
	}
	for _, c := range []struct {
		name  string
		sizes []int
		whats []string
	}{
		{GrowFunctions, cfg.Functions, []string{"call p50 µs", "call p99 µs", "worker ready s", "announcement B"}},
		{GrowBacklog, cfg.Backlog, []string{"publish p50 µs", "call of another pool p50 µs", "drained s", "drained calls/s"}},
		{GrowKeys, cfg.Keys, []string{"read one key p50 µs", "read zipf p50 µs", "read uniform p99 µs", "write uniform p50 µs", "list keys s"}},
	} {
		for _, what := range c.whats {
			first, there := got[key{c.name, c.sizes[0], what}]
			last, also := got[key{c.name, c.sizes[1], what}]
			if !there || !also || last.Ratio == nil {
				t.Errorf("%s: no row of %q at both sizes", c.name, what)
			} else if want := last.Value / first.Value; math.Abs(*last.Ratio-want) > 1e-6*want {
				t.Errorf("%s: %q has ratio %v, want %v", c.name, what, *last.Ratio, want)
			}
		}
	}
	if left, err := os.ReadDir(cfg.Store); err != nil || len(left) > 0 {
		t.Errorf("left behind in the store: %v, %v", left, err)
	}
}

func TestGrowthRefusesBadConfigs(t *testing.T) {
	for _, cfg := range []GrowthConfig{{Cases: []string{"hair"}}, {Functions: []int{0}}, {Backlog: []int{-1}}} {
		if err := Growth(t.Context(), cfg, &bytes.Buffer{}); !errors.Is(err, &wire.Error{Kind: wire.KindBadArgument}) {
			t.Errorf("Growth(%+v) = %v, want an error of bad arguments", cfg, err)
		}
	}
}
