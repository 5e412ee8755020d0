package kvlattice

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

type Dot struct {
	Writer string
	At     Timestamp
}

func (d Dot) compare(o Dot) int {
	if c := d.At.Compare(o.At); c != 0 {
		return c
	}
	return strings.Compare(d.Writer, o.Writer)
}

type VClock struct {
	floor Timestamp
	last  map[string]Timestamp
}

func (c *VClock) Covers(d Dot) bool {
	return d.At.Compare(c.floor) <= 0 || d.At.Compare(c.last[d.Writer]) <= 0
}
func (c *VClock) Add(d Dot) {
	if c.Covers(d) {
		return
	}
	if c.last == nil {
		c.last = make(map[string]Timestamp)
	}
	c.last[d.Writer] = d.At
}
func (c *VClock) Join(o *VClock) {
	c.Raise(o.floor)
	for w, at := range o.last {
		c.Add(Dot{w, at})
	}
}
func (c *VClock) Raise(floor Timestamp) {
	if floor.Compare(c.floor) <= 0 {
		return
	}
	c.floor = floor
	maps.DeleteFunc(c.last, func(_ string, at Timestamp) bool { return at.Compare(floor) <= 0 })
}
func (c *VClock) Len() int { return len(c.last) }
func (c *VClock) Clone() *VClock {
	return &VClock{c.floor, maps.Clone(c.last)}
}
func (c *VClock) equal(o *VClock) bool { return c.floor == o.floor && maps.Equal(c.last, o.last) }
func (c *VClock) String() string {
	parts := []string{c.floor.String()}
	for _, w := range slices.Sorted(maps.Keys(c.last)) {
		parts = append(parts, w+":"+c.last[w].String())
	}
	return strings.Join(parts, " ")
}
func parseVClock(s string) (*VClock, error) {
	c := new(VClock)
	fields := strings.Fields(s)
	if len(fields) == 0 {
		return nil, fmt.Errorf("empty clock")
	}
	f, err := ParseTimestamp(fields[0])
	if err != nil {
		return nil, err
	}
	c.floor = f
	for _, x := range fields[1:] {
		w, ts, ok := strings.Cut(x, ":")
		at, err := ParseTimestamp(ts)
		if !ok || err != nil {
			return nil, fmt.Errorf("bad entry")
		}
		c.Add(Dot{w, at})
	}
	return c, nil
}
