package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

const (
	// oddAmong is how many messages of a stream an examination reads.
	oddAmong = 10_000
	// oddShown is how many of them it names, since each is a line.
	oddShown = 20
)

// examineEntries looks for entries and messages that nobody can use: a hand wrote them.
// The registries' own are in Survey.
func (b *Broker) examineEntries(ctx context.Context, r *registry, layout map[string]string, there map[string]bool) ([]Finding, error) {
	found, err := b.examineSizes(ctx, there)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(r.functions)) {
		if why := wrongRuntime(r.functions[name]); why != "" {
			found = append(found, Finding{"function", name, HealthBroken, why})
		}
	}
	timers, err := b.examineMessages(ctx, there, StreamTimers, "timer", func(msg *nats.Msg) (health, why string) { return wrongTimer(msg, layout) })
	if err != nil {
		return nil, err
	}
	letters, err := b.examineMessages(ctx, there, StreamDead, "dead letter", wrongLetter)
	return append(append(found, timers...), letters...), err
}

// examineSizes looks at the record of the platform's sizes.
func (b *Broker) examineSizes(ctx context.Context, there map[string]bool) ([]Finding, error) {
	if !there[bucketStream(BucketPlatform)] {
		return nil, nil
	}
	r, err := b.readRecord(ctx, b.timeout)
	if err != nil {
		return nil, apiError("read the sizes of the platform", "", err)
	}
	var found []Finding
	for _, wrong := range r.wrong {
		found = append(found, Finding{"size", BucketPlatform + "." + keyTopology, HealthBroken, wrong + ": the streams' own is in force; `cloudburst platform set` mends it"})
	}
	return found, nil
}

// wrongRuntime says why no worker can run a function; empty if one may.
func wrongRuntime(f wire.Function) string {
	switch f.Runtime {
	case wire.RuntimePython, wire.RuntimeWasm:
		if !f.Deployed() {
			return fmt.Sprintf("its runtime is %q, and it names no image: deploy it", f.Runtime)
		}
	case wire.RuntimeNative, "":
		if f.Deployed() {
			return fmt.Sprintf("it names an image, and its runtime is %q: it can be python or wasm", f.Runtime)
		}
	default:
		return fmt.Sprintf("there is no runtime %q: it can be python or wasm", f.Runtime)
	}
	return ""
}

// examineMessages reads the first messages of a stream, and names those that are wrong.
func (b *Broker) examineMessages(ctx context.Context, there map[string]bool, stream, what string, wrong func(*nats.Msg) (health, why string)) ([]Finding, error) {
	if !there[stream] {
		return nil, nil
	}
	var found []Finding
	read, bad := 0, 0
	err := b.scan(ctx, stream, ">", 0, func(msg *nats.Msg) bool {
		read++
		if health, why := wrong(msg); health != HealthOK {
			if bad++; bad <= oddShown {
				seq := strconv.FormatUint(sequenceOf(msg), 10)
				found = append(found, Finding{what, seq, health, why + " (`nats stream rmm " + stream + " " + seq + "` removes it)"})
			}
		}
		return read < oddAmong
	})
	if bad > oddShown {
		found = append(found, Finding{what, "…", HealthBroken, fmt.Sprintf("%d more are like those", bad-oddShown)})
	}
	if read == oddAmong {
		found = append(found, Finding{what, "…", HealthOK, fmt.Sprintf("only the first %d were looked at", read)})
	}
	return found, apiError("read stream", stream, err)
}

// wrongTimer says what is wrong with a message of the stream of timers.
func wrongTimer(msg *nats.Msg, layout map[string]string) (health, why string) {
	h := wire.Header(msg.Header)
	to := wire.First(h, headerTo)
	waits := strings.HasPrefix(wire.First(h, jetstream.SubjectHeader), subjectTimer)
	switch name, _ := parseCallSubject(to); {
	case name == "" || wire.First(h, headerID) == "":
		return HealthBroken, "it isn't of a call: " + headerTo + " or " + headerID + " is missing"
	case waits && wire.First(h, headerSchedule) == "":
		return HealthBroken, "its time never comes: " + headerSchedule + " is missing"
	case layout[to] == "":
		return HealthWarning, "it calls " + to + ", which isn't there"
	}
	return HealthOK, ""
}

// wrongLetter says why a dead letter can't be called again.
func wrongLetter(msg *nats.Msg) (health, why string) {
	l := letterOf(msg)
	if wire.CheckName("function", l.Name) != nil {
		return HealthBroken, "no function or DAG can have the name " + strconv.Quote(l.Name)
	}
	if err := wire.CheckRunID(l.Run); err != nil {
		return HealthBroken, "it isn't of a run: " + err.Error()
	}
	if !json.Valid([]byte(wire.First(wire.Header(msg.Header), headerFailure))) {
		return HealthBroken, "its error, in " + headerFailure + ", isn't JSON"
	}
	if strings.HasPrefix(l.Args.Type, manifestType) {
		if _, err := readManifest(l.Args.Body); err != nil {
			return HealthBroken, "its argument can't be read: " + err.Error()
		}
	}
	return HealthOK, ""
}
