package broker

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// aged has everything be old that is stored by now: what runs need is kept for an instant.
func (p *platform) aged() {
	p.learn(Topology{Results: time.Nanosecond, Runs: time.Nanosecond, Blobs: time.Nanosecond})
}

// tend makes a janitor's rounds.
func (p *platform) tend(rounds int) {
	p.t.Helper()
	var last *census
	for range rounds {
		var err error
		if last, err = p.tendRuns(p.t.Context(), last); err != nil {
			p.t.Fatal(err)
		}
	}
}

// lastOf returns the sequence of a subject's message, 0 if there is none.
func (p *platform) lastOf(stream, subject string) uint64 {
	p.t.Helper()
	msg, err := p.newest(p.t.Context(), stream, subject)
	if err != nil {
		p.t.Fatal(err)
	}
	if msg == nil {
		return 0
	}
	return sequenceOf(msg)
}

// waits stores what a run began with that waits for a signal.
func (p *platform) waits(run wire.RunID) {
	p.t.Helper()
	if _, err := p.PutInput(p.t.Context(), run, "$start", "version", wire.Input{Value: wire.Value{Body: []byte(`"d@1"`)}}); err != nil {
		p.t.Fatal(err)
	}
}

// TestCommitRecordsStayAsLongAsTheirRuns commits in runs that have state, a call or a timer,
// and in one that has ended.
func TestCommitRecordsStayAsLongAsTheirRuns(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	bucket, err := p.OpenBucket(t.Context(), "bank")
	if err != nil {
		t.Fatal(err)
	}
	p.waits("waits.1/x")
	p.publish(wire.Call{Run: "called", Name: "f"})
	if err := p.Dispatch(t.Context(), wire.Call{Run: "later", Name: "f", Wait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	runs := []string{"gone", "waits.1/x", "called", "later", "waits"}
	r := kvlattice.Record{Value: wire.Value{Body: []byte("7"), Type: "application/json"}, At: kvlattice.Timestamp{Wall: 5}}
	for _, run := range runs {
		if _, err := bucket.Commit(t.Context(), run+"/node", r, nil); err != nil {
			t.Fatal(err)
		}
	}
	there := func() (found []string) {
		t.Helper()
		for _, run := range runs {
			got, ok, err := bucket.Recorded(t.Context(), run+"/node")
			if err != nil || ok && (string(got.Value.Body) != "7" || got.Value.Type != r.Value.Type || got.At != r.At) {
				t.Fatalf("%s: %+v, %v", run, got, err)
			}
			if ok {
				found = append(found, run)
			}
		}
		return found
	}
	p.tend(3)
	if got := there(); len(got) != len(runs) {
		t.Fatalf("before they are old, %q are left", got)
	}
	p.aged()
	p.tend(1)
	if got := there(); len(got) != len(runs) {
		t.Fatalf("after one look, %q are left", got)
	}
	p.tend(2)
	if got := there(); !slices.Equal(got, runs[1:4]) {
		t.Fatalf("%q are left, want %q", got, runs[1:4])
	}
	if _, err := bucket.Commit(t.Context(), "waits.1/x/node", r, nil); !errors.Is(err, kvlattice.ErrCommitted) {
		t.Errorf("a second commit: %v", err)
	}
	if err := p.endRun(t.Context(), &wire.Result{Run: "waits.1/x", Name: "d", Status: wire.StatusFailed, Err: boom()}); err != nil {
		t.Fatal(err)
	}
	p.tend(2)
	if got := there(); !slices.Equal(got, runs[2:4]) {
		t.Errorf("after a run's end %q are left, want %q", got, runs[2:4])
	}
}

func largeValue(t *testing.T) wire.Value {
	t.Helper()
	body := make([]byte, packOver+1)
	if _, err := rand.Read(body); err != nil {
		t.Fatal(err)
	}
	return wire.Value{Body: body, Type: "application/octet-stream"}
}

// TestLargeValuesStayAsLongAsTheirRuns looks at which chunks are written anew, so that
// their age begins again.
func TestLargeValuesStayAsLongAsTheirRuns(t *testing.T) {
	p := newPlatform(t)
	d := p.graph("dead")
	input, called, later, dead, nobodys := largeValue(t), largeValue(t), largeValue(t), largeValue(t), largeValue(t)
	if _, err := p.PutInput(t.Context(), "waits", "join", "a", wire.Input{Value: input}); err != nil {
		t.Fatal(err)
	}
	p.publish(wire.Call{Run: "called", Name: "f", Args: called})
	if err := p.Dispatch(t.Context(), wire.Call{Run: "later", Name: "f", Args: later, Wait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	packed := func(v wire.Value) (body []byte, subjects []string) {
		t.Helper()
		m, err := p.upload(t.Context(), v.Body, func(digest string) string { return subjectBlob + digest })
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range m.Chunks {
			subjects = append(subjects, subjectBlob+c.Digest)
		}
		body, err = json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return body, subjects
	}
	d.Call.Args.Body, _ = packed(dead)
	d.Call.Args.Type = manifestType
	d.msg.Data = d.Call.Args.Body
	if err := d.Bury(t.Context(), boom()); err != nil {
		t.Fatal(err)
	}
	before := make(map[string]uint64)
	of := make(map[string]string)
	for name, v := range map[string]wire.Value{"input": input, "called": called, "later": later, "dead": dead, "nobody's": nobodys} {
		_, subjects := packed(v)
		for _, subject := range subjects {
			before[subject], of[subject] = p.lastOf(StreamBlobs, subject), name
		}
	}
	moved := func() map[string]bool {
		all := make(map[string]bool)
		for subject, seq := range before {
			all[of[subject]] = p.lastOf(StreamBlobs, subject) != seq
		}
		return all
	}
	p.tend(1)
	for name, anew := range moved() {
		if anew {
			t.Errorf("%s is young, and was written anew", name)
		}
	}
	p.aged()
	p.tend(1)
	for name, anew := range moved() {
		if anew != (name != "nobody's") {
			t.Errorf("%s: written anew: %v", name, anew)
		}
	}
	inputs, err := p.Inputs(t.Context(), "waits", "join", 0)
	if err != nil || !slices.Equal(inputs["a"].Body, input.Body) {
		t.Errorf("the input is %d bytes afterwards, %v", len(inputs["a"].Body), err)
	}
}

// TestContainedRunsAreRememberedAsLongAsTheirParents has two runs inside of others end: one
// whose parent has yet to hear of it, and one whose parent has.
func TestContainedRunsAreRememberedAsLongAsTheirParents(t *testing.T) {
	p := newPlatform(t)
	d := p.graph("parent")
	awaited, heard := wire.Contained("parent", 0, "n"), wire.Contained("other", 0, "n")
	for _, run := range []wire.RunID{awaited, heard} {
		p.finish(run, "inner", wire.StatusOK)
	}
	seq := func(run wire.RunID) uint64 {
		return p.lastOf(bucketStream(BucketResults), bucketSubject(BucketResults, string(run)))
	}
	first, other := seq(awaited), seq(heard)
	p.aged()
	p.tend(1)
	if seq(awaited) == first || seq(heard) != other {
		t.Errorf("the results were at %d and %d, and are at %d and %d: only the first is to move", first, other, seq(awaited), seq(heard))
	}
	if r, err := p.Result(t.Context(), awaited); err != nil || r.Status != wire.StatusOK || r.Name != "inner" {
		t.Errorf("the result is %+v, %v", r, err)
	}
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the parent's call is settled", func() bool {
		m, err := p.marks(t.Context(), DefaultPool)
		return err == nil && m.floor == 1
	})
	last := seq(awaited)
	p.tend(1)
	if seq(awaited) != last {
		t.Error("the parent has heard, and the result is kept all the same")
	}
}

// TestLeftoversOfRunsGo leaves what workers leave that die, or pause, at the wrong moment.
func TestLeftoversOfRunsGo(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	claim := func(run wire.RunID) {
		t.Helper()
		if err := p.writeClaim(t.Context(), run, claim{Call: "CB_CALLS_default-1/5"}, 0); err != nil {
			t.Fatal(err)
		}
	}
	node := func(run wire.RunID) {
		t.Helper()
		if _, err := p.Claim(t.Context(), run, "n", 7, false); err != nil {
			t.Fatal(err)
		}
	}
	p.publish(wire.Call{Run: "called.1", Name: "f"})
	claim("called.1") // its call goes on
	node("called.1")
	claim("dead") // its worker died after the result
	p.begun("waits")
	claim("waits")
	p.finish("ended", "d", wire.StatusOK)
	p.begun("ended") // by a worker that was paused
	node("late")     // likewise, and the result has run out
	p.finish("failed", "d", wire.StatusFailed)
	p.begun("failed")
	all := p.stateOfRuns()
	p.tend(3)
	kept := slices.DeleteFunc(slices.Clone(all), func(s string) bool {
		return len(s) > len("cb.run.ended.") && s[:len("cb.run.ended.")] == "cb.run.ended."
	})
	p.wantState(kept...) // of a run with a result nothing is needed, however young it is
	p.aged()
	p.tend(1)
	p.wantState(kept...)
	p.tend(2)
	p.wantState(
		"cb.run.called=2E1.id", "cb.run.called=2E1.n.claim",
		"cb.run.failed.$start.in.version", "cb.run.failed.:1.$start.in.version", "cb.run.failed.:1.n.claim", "cb.run.failed.n.claim",
		"cb.run.waits.$start.in.version", "cb.run.waits.:1.$start.in.version", "cb.run.waits.:1.n.claim", "cb.run.waits.id", "cb.run.waits.n.claim",
	)
}

// TestRenewLeavesWhatIsNewer has a message be replaced after it was read.
func TestRenewLeavesWhatIsNewer(t *testing.T) {
	p := newPlatform(t)
	p.waits("r")
	subject := runSubject("r", runPinned)
	old, err := p.newest(t.Context(), StreamRuns, subject)
	if err != nil || old == nil {
		t.Fatal(old, err)
	}
	if _, err := p.PutInput(t.Context(), "r", "$start", "version", wire.Input{Value: wire.Value{Body: []byte(`"d@2"`)}}); err != nil {
		t.Fatal(err)
	}
	if err := p.renew(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	now, err := p.newest(t.Context(), StreamRuns, subject)
	if err != nil || string(now.Data) != `"d@2"` || now.Header.Get(jetstream.SequenceHeader) != "2" {
		t.Errorf("%+v, %v", now, err)
	}
}
