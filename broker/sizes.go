package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Size is one of the platform's sizes and times: a field of Topology under the
// name that people use for it.
type Size struct {
	Name  string // as in the record and in `cloudburst platform set`
	About string
	Unit  string // "servers", "time" or "bytes"

	field func(*Topology) any // *int, *time.Duration or *int64
}

// Sizes are all that there are, in the order in which they are shown.
func Sizes() []Size {
	return []Size{
		{"replicas", "on how many servers everything is kept", "servers", func(t *Topology) any { return &t.Replicas }},
		{"ack-wait", "without a sign of life for so long, a call goes to another worker", "time", func(t *Topology) any { return &t.AckWait }},
		{"backlog-size", "room for the waiting calls of each pool; a full one refuses calls", "bytes", func(t *Topology) any { return &t.CallsBytes }},
		{"duplicates", "for how long the same Nats-Msg-Id is stored once", "time", func(t *Topology) any { return &t.Duplicates }},
		{"results-ttl", "how long results are kept", "time", func(t *Topology) any { return &t.Results }},
		{"results-size", "room for results; the oldest go first", "bytes", func(t *Topology) any { return &t.ResultsBytes }},
		{"runs-ttl", "what runs leave behind is removed when it is so old", "time", func(t *Topology) any { return &t.Runs }},
		{"dead-ttl", "how long dead letters are kept", "time", func(t *Topology) any { return &t.Dead }},
		{"blobs-ttl", "how long large arguments and results are kept", "time", func(t *Topology) any { return &t.Blobs }},
		{"messages-ttl", "how long a message waits for its function", "time", func(t *Topology) any { return &t.Messages }},
		{"messages-size", "room for such messages; when it is full none can be sent", "bytes", func(t *Topology) any { return &t.MessagesBytes }},
		{"logs-ttl", "how long what functions print is kept", "time", func(t *Topology) any { return &t.Logs }},
		{"logs-size", "room for what functions print; the oldest goes first", "bytes", func(t *Topology) any { return &t.LogsBytes }},
	}
}

// Text returns a size as people write it, such as 3, 5s or 256MiB; empty if it isn't set.
func (s Size) Text(t Topology) string {
	switch v := s.field(&t).(type) {
	case *int:
		if *v != 0 {
			return strconv.Itoa(*v)
		}
	case *time.Duration:
		if *v != 0 {
			return shortTime(*v)
		}
	case *int64:
		if *v != 0 {
			return shortBytes(*v)
		}
	}
	return ""
}

// Number returns a size as a number: servers, milliseconds or bytes.
func (s Size) Number(t Topology) int64 {
	switch v := s.field(&t).(type) {
	case *time.Duration:
		return v.Milliseconds()
	case *int64:
		return *v
	case *int:
		return int64(*v)
	}
	return 0
}

// The least that makes sense: the server refuses times below 100 ms, and a call that
// is sent again within a minute must be known to be the same.
const (
	leastTime       = 100 * time.Millisecond
	leastBytes      = 16 << 10
	leastDuplicates = dedupSafe + 5*time.Second
)

// The most that makes sense. The calls of a dead worker wait for the acknowledgement wait, and
// the server keeps each Nats-Msg-Id of the last mostDuplicates in memory.
const (
	mostReplicas   = 5 // of a JetStream server
	mostAckWait    = time.Hour
	mostDuplicates = 24 * time.Hour
	mostTime       = 10 * 365 * 24 * time.Hour
	mostBytes      = 1 << 50
)

// Set reads what Text returns. A value that can't be is an error of KindBadArgument.
func (s Size) Set(t *Topology, text string) error {
	if err := s.parse(t, text); err != nil {
		return err
	}
	return s.check(*t, text)
}

func (s Size) parse(t *Topology, text string) error {
	switch v := s.field(t).(type) {
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return s.wrong(text, "want a number of servers, such as 3")
		}
		*v = n
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return s.wrong(text, "want a time, such as 5s or 1h")
		}
		*v = d
	case *int64:
		n, err := wire.ParseSize(text)
		if err != nil {
			return s.wrong(text, "want a size, such as 256MiB")
		}
		*v = n
	}
	return nil
}

// check refuses what no server or worker could work with.
func (s Size) check(t Topology, text string) error {
	switch v := s.field(&t).(type) {
	case *int:
		if *v < 1 || *v > mostReplicas {
			return s.wrong(text, fmt.Sprintf("1 to %d servers can keep a copy", mostReplicas))
		}
	case *time.Duration:
		least, most := leastTime, mostTime
		switch s.Name {
		case "ack-wait":
			most = mostAckWait
		case "duplicates":
			least, most = leastDuplicates, mostDuplicates
		}
		switch {
		case *v < least:
			return s.wrong(text, "want at least "+shortTime(least))
		case *v > most:
			return s.wrong(text, "want at most "+shortTime(most))
		}
	case *int64:
		switch {
		case *v < leastBytes:
			return s.wrong(text, "want at least "+shortBytes(leastBytes))
		case *v > mostBytes:
			return s.wrong(text, "want at most "+shortBytes(mostBytes))
		}
	}
	return nil
}

func (s Size) wrong(text, want string) error {
	return &wire.Error{Op: "set", Kind: wire.KindBadArgument, Name: s.Name, Msg: want + " (" + text + ")"}
}

// Check refuses sizes that no server or worker could work with; those that aren't
// set are not looked at.
func (t Topology) Check() error {
	for _, s := range Sizes() {
		if text := s.Text(t); text != "" {
			if err := s.check(t, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// Default returns the sizes that a platform has unless it is told otherwise.
func Default() Topology { return Topology{}.withDefaults() }

// over returns t with those sizes that are set in given, and the names of the sizes
// that this changes.
func (t Topology) over(given Topology) (merged Topology, changed []string) {
	for _, s := range Sizes() {
		if text := s.Text(given); text != "" && text != s.Text(t) {
			s.copy(&t, given)
			changed = append(changed, s.Name)
		}
	}
	return t, changed
}

// copy sets one size of t to what it is in from.
func (s Size) copy(t *Topology, from Topology) {
	switch v := s.field(t).(type) {
	case *int:
		if f, ok := s.field(&from).(*int); ok {
			*v = *f
		}
	case *time.Duration:
		if f, ok := s.field(&from).(*time.Duration); ok {
			*v = *f
		}
	case *int64:
		if f, ok := s.field(&from).(*int64); ok {
			*v = *f
		}
	}
}

// encodeSizes writes the record, which `nats kv get` shows; extra is what an older
// or newer version put there and we don't know.
func encodeSizes(t Topology, extra map[string]any) ([]byte, error) {
	all := make(map[string]any, len(extra))
	maps.Copy(all, extra)
	for _, s := range Sizes() {
		all[s.Name] = s.Text(t)
	}
	return json.MarshalIndent(all, "", "  ") // sorted by name
}

// decodeSizes reads a record as far as it can be read. What it lacks is unset, what
// is wrong in it is named, and what isn't known is kept.
func decodeSizes(body []byte) (t Topology, extra map[string]any, wrong []string) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&extra); err != nil {
		return Topology{}, nil, []string{"not a JSON object: " + err.Error()}
	}
	for _, s := range Sizes() {
		v, there := extra[s.Name]
		delete(extra, s.Name)
		if !there {
			continue
		}
		var read Topology
		if err := s.Set(&read, fmt.Sprint(v)); err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		s.copy(&t, read)
	}
	return t, extra, wrong
}

// shortTime is a duration without the zeros at its end: 1h rather than 1h0m0s.
func shortTime(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = text[:len(text)-2]
	}
	if strings.HasSuffix(text, "h0m") {
		text = text[:len(text)-2]
	}
	return text
}

// shortBytes is a size in the largest unit that it is a multiple of.
func shortBytes(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n != 0 && n%unit.size == 0 {
			return strconv.FormatInt(n/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}
