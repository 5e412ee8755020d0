package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// putByHand stores a message as a NATS client would, and returns its sequence.
func (b *Broker) putByHand(t *testing.T, subject, body string, header map[string]string) string {
	t.Helper()
	msg := &nats.Msg{Subject: subject, Header: make(nats.Header), Data: []byte(body)}
	for key, value := range header {
		msg.Header[key] = []string{value}
	}
	seq, err := b.put(t.Context(), msg)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(seq)
}

// An examination names every entry that nobody can use, and no other.
func TestExamineNamesWhatIsOdd(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	if err := p.Announce(t.Context(), WorkerInfo{ID: "w", Pool: "default"}); err != nil {
		t.Fatal(err)
	}
	p.publish(wire.Call{Run: "died", Name: "f"})
	if err := p.take().Bury(t.Context(), boom()); err != nil {
		t.Fatal(err)
	}
	p.publish(wire.Call{Run: "later", Name: "f", Wait: 1 << 40})
	odd := func() map[string]Finding {
		found, err := p.Examine(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		odd := make(map[string]Finding)
		for _, f := range found {
			if f.Health != HealthOK && f.What != "pool" && f.What != "stream" {
				odd[f.What+" "+f.Name] = f
			}
		}
		return odd
	}
	if got := odd(); len(got) > 0 {
		t.Fatalf("before anything was written by hand: %v", got)
	}

	in := func(bucket, key string) string { return bucketSubject(bucket, key) }
	timer := func(name string, h map[string]string) string { return p.putByHand(t, subjectTimer+name, "1", h) }
	letter := func(name string, h map[string]string) string { return p.putByHand(t, subjectDead+name, "1", h) }
	at := "@at 2100-01-01T00:00:00Z"
	p.putByHand(t, in(BucketWorkers, "text"), "hello", nil)
	p.putByHand(t, in(BucketPlatform, keyTopology), `{"replicas":1,"ack-wait":"1000000h","logs-size":"-1"}`, nil)
	p.putByHand(t, in(BucketFunctions, "old"), `{"name":"old","runtime":"cobol","image":"abc"}`, nil)
	p.putByHand(t, in(BucketFunctions, "hollow"), `{"name":"hollow","runtime":"python"}`, nil)
	p.putByHand(t, in(BucketFunctions, "vague"), `{"name":"vague","image":"abc"}`, nil)
	gone := "timer " + timer("c.0.x", map[string]string{headerTo: "cb.call.gone", headerID: "c", headerSchedule: at, headerScheduleTarget: subjectFire + "c.0.x"})
	want := map[string]string{
		gone:                           "cb.call.gone, which isn't there",
		"worker text":                  "JSON",
		"function old":                 `no runtime "cobol"`,
		"function hollow":              "names no image",
		"function vague":               `its runtime is ""`,
		"size cb_platform.topology":    "set", // the last of two
		"timer " + timer("a.0.x", nil): "isn't of a call",
		"timer " + timer("b.0.x", map[string]string{headerTo: "cb.call.f", headerID: "b"}):                               "never comes",
		"dead letter " + letter("a.b", nil):                                                                              `"a.b"`,
		"dead letter " + letter("f", nil):                                                                                "isn't of a run",
		"dead letter " + letter("f", map[string]string{wire.HeaderOf: "r", headerFailure: "oh"}):                         "isn't JSON",
		"dead letter " + letter("f", map[string]string{wire.HeaderOf: "r", headerFailure: "{}", wire.HeaderChunks: "1"}): "a manifest",
	}
	got := odd()
	for what, word := range want {
		if !strings.Contains(got[what].Detail, word) {
			t.Errorf("%s: %q, want %q in it", what, got[what].Detail, word)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d are odd, %d were written by hand: %v", len(got), len(want), got)
	}
	if h := got[gone].Health; h != HealthWarning {
		t.Errorf("a timer of a function that may come back is %q", h)
	}
	for range 2 * oddShown {
		letter("f", nil)
	}
	if got := odd(); got["dead letter …"].Detail != "24 more are like those" {
		t.Errorf("of many letters: %v", got)
	}
}
