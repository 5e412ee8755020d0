package retwis

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestGenerateFollows(t *testing.T) {
	for _, size := range []struct{ users, follows int }{{1, 0}, {2, 1}, {40, 39}, {50, 10}, {1000, 50}} {
		g := generate(rand.New(rand.NewPCG(1, 1)), size.users, size.follows)
		if len(g.names) != size.users || g.edges() != size.users*size.follows {
			t.Errorf("generate(%v): %d users and %d follows", size, len(g.names), g.edges())
		}
		for u, whom := range g.follows {
			if len(slices.Compact(slices.Clone(whom))) != size.follows || !slices.IsSorted(whom) || slices.Contains(whom, u) {
				t.Fatalf("generate(%v): %d follows %v", size, u, whom)
			}
		}
	}
}

// The share of people who follow the one of rank k is 1-(1-p)^draws, where p
// is Zipf's probability of k and draws what it takes to find 50 different ones.
func TestGenerateIsZipf(t *testing.T) {
	const users, follows = 1000, 50
	g := generate(rand.New(rand.NewPCG(7, 1)), users, follows)
	followers := make([]float64, users)
	for _, whom := range g.follows {
		for _, v := range whom {
			followers[v]++
		}
	}
	var norm float64
	for k := 1; k <= users; k++ {
		norm += math.Pow(float64(k), -zipf)
	}
	share := func(k int, draws float64) float64 {
		return 1 - math.Pow(1-math.Pow(float64(k), -zipf)/norm, draws)
	}
	draws := 50.0
	for sum := 0.0; sum < follows; draws++ {
		sum = 0
		for k := 1; k <= users; k++ {
			sum += share(k, draws)
		}
	}
	for _, ranks := range []struct{ from, to int }{{1, 5}, {10, 20}, {40, 60}, {100, 150}, {300, 1000}} {
		var got, want float64
		for k := ranks.from; k <= ranks.to; k++ {
			got += followers[k-1]
			want += users * share(k, draws)
		}
		if math.Abs(got-want) > 0.1*want {
			t.Errorf("ranks %d to %d have %.0f followers, Zipf gives %.0f", ranks.from, ranks.to, got, want)
		}
	}
}

func TestGenerateBySeed(t *testing.T) {
	of := func(seed uint64) *socialGraph { return generate(Config{Seed: seed}.rng(1), 100, 10) }
	if !reflect.DeepEqual(of(5), of(5)) {
		t.Error("the same seed made two graphs")
	}
	if reflect.DeepEqual(of(5), of(6)) {
		t.Error("two seeds made the same graph")
	}
}

func TestLoad(t *testing.T) {
	plain := filepath.Join("testdata", "friends.txt")
	text, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	gz := filepath.Join(t.TempDir(), "friends") // found out by content, not by name
	if err := os.WriteFile(gz, zipped.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	want := &socialGraph{
		names:   []string{"ann", "bob", "cid", "dan", "eve"},
		follows: [][]int{{1, 3}, {0, 2}, {1}, {0}, nil},
	}
	for _, path := range []string{plain, gz} {
		got, err := load(path)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("load(%s) = %+v, %v; want %+v", path, got, err, want)
		}
	}
	if _, err := load("nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load(nowhere): %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a b\nc\n":     `line 2: "c" is not two names`,
		"# nobody\n":   "no friendships",
		"":             "no friendships",
		"\x1f\x8bjunk": "gzip",
	} {
		if _, err := parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) && want != "gzip" {
			t.Errorf("parse(%q): %v, want %q", text, err, want)
		}
	}
}
