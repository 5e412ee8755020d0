package retwis

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A socialGraph says who follows whom. People are numbered from 0.
type socialGraph struct {
	names   []string // by number
	follows [][]int  // by number, sorted, without oneself
}

// zipf is the paper's exponent: how much more the popular are followed.
const zipf = 1.5

// generate returns people who each follow the given number of others, drawn by
// popularity: person 0 is the most popular. It panics if there are too few.
func generate(rng *rand.Rand, users, follows int) *socialGraph {
	if follows >= users {
		panic("retwis.generate: too few users to follow")
	}
	g := &socialGraph{names: make([]string, users), follows: make([][]int, users)}
	popular := rand.NewZipf(rng, zipf, 1, uint64(users-1))
	for u := range users {
		g.names[u] = "user " + strconv.Itoa(u)
		chosen := map[int]bool{u: true}
		for tries := 0; len(g.follows[u]) < follows; tries++ {
			whom := int(popular.Uint64()) //nolint:gosec // below users
			if tries > 100*users {        // who follows nearly everybody would wait long for the last few
				whom = rng.IntN(users)
			}
			if !chosen[whom] {
				chosen[whom] = true
				g.follows[u] = append(g.follows[u], whom)
			}
		}
		slices.Sort(g.follows[u])
	}
	return g
}

// load reads a graph of friendships from a file, which may be gzipped.
func load(path string) (*socialGraph, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load graph: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	g, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("load graph %s: %w", path, err)
	}
	return g, nil
}

// parse reads a list of friendships, one a line: two names, and anything after
// them. Lines that begin with '#' are comments. Friends follow each other.
func parse(r io.Reader) (*socialGraph, error) {
	in := bufio.NewReader(r)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		in = bufio.NewReader(unzipped)
	}
	g := &socialGraph{}
	numbers := make(map[string]int)
	number := func(name string) int {
		n, ok := numbers[name]
		if !ok {
			n = len(g.names)
			numbers[name] = n
			g.names, g.follows = append(g.names, name), append(g.follows, nil)
		}
		return n
	}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %d: %q is not two names", n, lines.Text())
		}
		if a, b := number(fields[0]), number(fields[1]); a != b {
			g.follows[a], g.follows[b] = append(g.follows[a], b), append(g.follows[b], a)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(g.names) == 0 {
		return nil, fmt.Errorf("no friendships in it: a line is two names")
	}
	for u := range g.follows {
		slices.Sort(g.follows[u])
		g.follows[u] = slices.Compact(g.follows[u])
	}
	return g, nil
}

// edges counts who-follows-whom.
func (g *socialGraph) edges() (n int) {
	for _, whom := range g.follows {
		n += len(whom)
	}
	return n
}
