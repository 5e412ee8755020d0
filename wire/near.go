package wire

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Near returns up to three of the known names that somebody who wrote name may
// have meant instead, the likeliest first: a third of the letters may be wrong, or
// the end be left out. None if name itself is known: it isn't what is wrong.
func Near(name string, known iter.Seq[string]) []string {
	type candidate struct {
		name string
		far  int
	}
	var near []candidate
	most := max(1, (len(name)+2)/3)
	low := strings.ToLower(name)
	for k := range known {
		if k == name {
			return nil
		}
		far := distance(low, strings.ToLower(k), most)
		if far > most && len(name) > 2 && strings.HasPrefix(strings.ToLower(k), low) {
			far = most
		}
		if far <= most {
			near = append(near, candidate{k, far})
		}
	}
	slices.SortFunc(near, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(x.far, y.far), cmp.Compare(x.name, y.name))
	})
	names := make([]string, 0, 3)
	for _, c := range near[:min(len(near), 3)] {
		names = append(names, c.name)
	}
	return names
}

// distance returns how many letters must be changed, added or dropped to make
// one name of the other (Levenshtein), or something over most.
func distance(x, y string, most int) int {
	if d := len(x) - len(y); d > most || -d > most {
		return most + 1
	}
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(x) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(y) {
			change := diagonal
			if x[i] != y[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(y)]
}
