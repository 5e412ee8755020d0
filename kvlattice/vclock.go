package kvlattice

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A Dot names one write of a causal register: who wrote, and when. A writer's
// dots of one key are stored in growing order, each with all that came before
// it, so the latest one that is known stands for all earlier ones.
type Dot struct {
	Writer string // empty for a write by hand
	At     Timestamp
}

// compare orders dots by time, then by writer.
func (d Dot) compare(o Dot) int {
	return cmp.Or(d.At.Compare(o.At), strings.Compare(d.Writer, o.Writer))
}

// A VClock is a set of dots: all up to a floor, whoever wrote them, and of some
// writers all up to a later time. The zero VClock is empty. It is a vector clock
// whose entries for writers that are gone are folded into the floor.
type VClock struct {
	floor Timestamp
	last  map[string]Timestamp // all after floor
}

// Covers says whether the dot is in the set.
func (c *VClock) Covers(d Dot) bool {
	return d.At.Compare(c.floor) <= 0 || d.At.Compare(c.last[d.Writer]) <= 0
}

// Includes says whether all dots of the other clock are in this one.
func (c *VClock) Includes(o *VClock) bool {
	if o.floor.Compare(c.floor) > 0 {
		return false
	}
	for writer, at := range o.last {
		if !c.Covers(Dot{writer, at}) {
			return false
		}
	}
	return true
}

// Add puts the dot into the set, and all earlier ones of its writer.
func (c *VClock) Add(d Dot) {
	if c.Covers(d) {
		return
	}
	if c.last == nil {
		c.last = make(map[string]Timestamp)
	}
	c.last[d.Writer] = d.At
}

// Join adds all dots of the other clock, and says whether any was new.
func (c *VClock) Join(o *VClock) (changed bool) {
	changed = c.Raise(o.floor)
	for writer, at := range o.last {
		if d := (Dot{writer, at}); !c.Covers(d) {
			c.Add(d)
			changed = true
		}
	}
	return changed
}

// Raise takes all dots up to floor for known, whoever wrote them, and says whether
// that changed anything. It is right only for whoever holds all of them that will
// ever be acknowledged: see Causal.Settle.
func (c *VClock) Raise(floor Timestamp) (changed bool) {
	if floor.Compare(c.floor) <= 0 {
		return false
	}
	c.floor = floor
	maps.DeleteFunc(c.last, func(_ string, at Timestamp) bool { return at.Compare(floor) <= 0 })
	return true
}

// Len returns how many writers the clock remembers one by one.
func (c *VClock) Len() int { return len(c.last) }

// Latest returns the latest time in the clock.
func (c *VClock) Latest() Timestamp {
	latest := c.floor
	for _, at := range c.last {
		latest = later(latest, at)
	}
	return latest
}

// Clone returns an independent copy.
func (c *VClock) Clone() VClock { return VClock{c.floor, maps.Clone(c.last)} }

// String returns the clock as one line: its floor, then writer:time of each
// writer, by name. Times are in base 36, wall clock and counter joined by a dot.
func (c *VClock) String() string {
	b := appendTime(nil, c.floor)
	for _, writer := range slices.Sorted(maps.Keys(c.last)) {
		b = append(append(append(b, ' '), writer...), ':')
		b = appendTime(b, c.last[writer])
	}
	return string(b)
}

func appendTime(b []byte, t Timestamp) []byte {
	b = strconv.AppendInt(b, t.Wall, 36)
	if t.Logical != 0 {
		b = strconv.AppendUint(append(b, '.'), uint64(t.Logical), 36)
	}
	return b
}

// parseVClock reads what String wrote.
func parseVClock(s string) (VClock, error) {
	var c VClock
	first := true
	for field := range strings.SplitSeq(s, " ") {
		writer, text := "", field
		if !first {
			colon := strings.LastIndexByte(field, ':')
			if colon < 0 {
				return VClock{}, fmt.Errorf("clock entry %q isn't writer:time", field)
			}
			writer, text = strings.Clone(field[:colon]), field[colon+1:] // not the whole message's
		}
		if err := checkWriter(writer); err != nil {
			return VClock{}, err
		}
		at, err := parseTime(text)
		if err != nil {
			return VClock{}, err
		}
		if first {
			c.floor = at
		} else {
			c.Add(Dot{writer, at})
		}
		first = false
	}
	return c, nil
}

// checkWriter refuses names that would tear a header's line.
func checkWriter(name string) error {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c == ':' || c > '~' {
			return fmt.Errorf("writer %q of a dot isn't a name", name)
		}
	}
	return nil
}

func parseTime(s string) (Timestamp, error) {
	wall, logical, counted := strings.Cut(s, ".")
	w, err := strconv.ParseInt(wall, 36, 64)
	if err != nil || w < 0 {
		return Timestamp{}, fmt.Errorf("time %q of a clock isn't one", s)
	}
	t := Timestamp{Wall: w}
	if counted {
		l, err := strconv.ParseUint(logical, 36, 32)
		if err != nil || l > math.MaxUint32 {
			return Timestamp{}, fmt.Errorf("time %q of a clock isn't one", s)
		}
		t.Logical = uint32(l)
	}
	return t, nil
}
