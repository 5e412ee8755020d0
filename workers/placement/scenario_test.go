package placement

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite testdata")

// Each file of testdata is a scenario: lines of what happens, and below each "call"
// where it runs.
//
//	at 5s                                             the time is
//	hear a n=1 slots=10 busy=2 keys=x:100,y gone=z    a summary; full, ask, leaves are flags
//	handed a | took a 5 | refused a | gone a          an offer to a, and what it has shown
//	expire 3s                                         who was silent for so long is forgotten
//	call me x,y                                       a call with references, pulled by me
//	homes x                                           where calls of it run as workers fill up
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s: got\n%s\nwant\n%s", file, got, text)
			}
		})
	}
}

func play(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	v := NewView("me")
	now := time.Unix(0, 0)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  ") {
			continue // what it said before
		}
		out.WriteString(line)
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		switch f[0] {
		case "at":
			now = time.Unix(0, 0).Add(duration(t, f[1]))
		case "expire":
			v.Expire(now.Add(-duration(t, f[1])))
		case "hear":
			if !v.Hear(now, summary(t, f[1:])) {
				out.WriteString("  asks for all\n")
			}
		case "gone":
			v.Gone(f[1])
		case "refused":
			v.Refused(f[1])
		case "handed":
			v.Handed(f[1])
		case "took":
			busy, _ := strconv.Atoi(f[2])
			v.Took(f[1], busy)
		case "call":
			fmt.Fprintf(&out, "  %s\n", v.Decide(f[1], keys(f[2])))
		case "homes":
			var order []string
			for to := v.Decide("nobody", keys(f[1])); to != "nobody" && !slices.Contains(order, to); to = v.Decide("nobody", keys(f[1])) {
				order = append(order, to)
				v.Refused(to)
			}
			fmt.Fprintf(&out, "  %s\n", strings.Join(order, " "))
		default:
			t.Fatalf("not understood: %s", line)
		}
	}
	return out.String()
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func keys(text string) []Key {
	var keys []Key
	for k := range strings.SplitSeq(text, ",") {
		keys = append(keys, KeyOf("ns", k))
	}
	return keys
}

func summary(t *testing.T, fields []string) Summary {
	t.Helper()
	s := Summary{Worker: fields[0], Slots: 10}
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		number, _ := strconv.Atoi(value)
		switch name {
		case "n":
			s.N = uint64(number)
		case "slots":
			s.Slots = number
		case "busy":
			s.Busy = number
		case "keys":
			s.Keys = make(map[Key]int64)
			for one := range strings.SplitSeq(value, ",") {
				k, bytes, _ := strings.Cut(one, ":")
				s.Keys[KeyOf("ns", k)], _ = strconv.ParseInt(bytes, 10, 64)
			}
		case "gone":
			s.Gone = keys(value)
		case "full":
			s.Full = true
		case "ask":
			s.Ask = true
		case "leaves":
			s.Leaves = true
		default:
			t.Fatalf("not understood: %s", f)
		}
	}
	return s
}
