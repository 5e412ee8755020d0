package paper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// TestMain plays a worker when a test of ours started it.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "role" && os.Args[2] == Role {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			defer cancel()
			_, _ = io.Copy(io.Discard, os.Stdin) // ends with whoever started this
		}()
		err := Serve(ctx, os.Args[3], os.Stdout)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// rowsOf runs an experiment that writes JSON, and checks that it left nothing behind.
func rowsOf[R any](t *testing.T, run func(Common, *bytes.Buffer) error) []R {
	t.Helper()
	cfg := Common{JSON: true, Store: t.TempDir()}
	var out bytes.Buffer
	if err := run(cfg, &out); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(cfg.Store); err != nil || len(left) > 0 {
		t.Errorf("left behind in the store: %v, %v", left, err)
	}
	var rows []R
	for dec := json.NewDecoder(&out); dec.More(); {
		var r R
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return rows
}

// Every way to compose gives square(increment(x)), or Composition fails.
func TestComposition(t *testing.T) {
	rows := rowsOf[CompositionRow](t, func(c Common, out *bytes.Buffer) error {
		return Composition(t.Context(), CompositionConfig{Common: c, Calls: 20, Callers: 4, Rounds: 2}, out)
	})
	var cases []string
	for _, r := range rows {
		cases = append(cases, r.Case)
		if r.P50 <= 0 || r.P99 < r.P50 || r.PerSecond <= 0 || r.RatioP50 <= 0 || r.RatioPerSecond <= 0 {
			t.Errorf("%+v is not complete", r)
		}
	}
	if want := []string{"nats chain", "dag fused", "dag hop", "caller", "future", "kv bucket"}; !slices.Equal(cases, want) {
		t.Errorf("cases %q, want %q", cases, want)
	}
}

// The table has what the JSON has, with the paper's figures beside it.
func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := Composition(t.Context(), CompositionConfig{Common: Common{Store: t.TempDir()}, Calls: 2, Callers: 1, Rounds: 1}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"dag hop", "kv bucket", "the paper's", "82x slower", "2 calls one by one"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestGossip(t *testing.T) {
	rows := rowsOf[GossipRow](t, func(c Common, out *bytes.Buffer) error {
		return Gossip(t.Context(), GossipConfig{Common: c, Actors: 10, Repeats: 5}, out)
	})
	if len(rows) != 2 || rows[0].Case != "gossip" || rows[1].Case != "gather" {
		t.Fatalf("rows %+v, want gossip and gather", rows)
	}
	for _, r := range rows {
		if r.Converged != 1 || r.Worst > within || r.Repeats < 5 || r.P50 <= 0 || r.P99 < r.P50 {
			t.Errorf("%+v: all have to be within %v of the average", r, within)
		}
	}
	if rows[0].Rounds < 2 || rows[1].Rounds != 0 || rows[1].Worst != 0 {
		t.Errorf("gossip goes round, and gather is exact: %+v", rows)
	}
}

func TestAccuracy(t *testing.T) {
	var a accuracy
	a.add(10, 10, 10.4, 9.6)
	a.add(10, 10, 8)
	if a.repeats != 2 || a.converged != 1 || rounded(a.worst, 6) != 0.2 {
		t.Errorf("%+v, want one of two converged, and the worst off by 0.2", &a)
	}
}

// The pipeline's DAGs predict what its plain functions do, or Prediction fails.
func TestPrediction(t *testing.T) {
	rows := rowsOf[PredictionRow](t, func(c Common, out *bytes.Buffer) error {
		return Prediction(t.Context(), PredictionConfig{Common: c, Images: 2, Rounds: 1}, out)
	})
	var cases []string
	for _, r := range rows {
		cases = append(cases, r.Case)
		if r.P50 <= 0 || r.P99 < r.P50 || r.RatioP50 <= 0 {
			t.Errorf("%+v is not complete", r)
		}
	}
	if want := []string{"plain", "dag fused", "dag 3 workers"}; !slices.Equal(cases, want) {
		t.Errorf("cases %q, want %q", cases, want)
	}
}

func TestRetwis(t *testing.T) {
	rows := rowsOf[RetwisRow](t, func(c Common, out *bytes.Buffer) error {
		return Retwis(t.Context(), RetwisConfig{Common: c, Workers: []int{2, 1}, Users: 20, Follows: 3, Posts: 20, Callers: 4}, out)
	})
	var cases []string
	for _, r := range rows {
		cases = append(cases, r.Case)
		if r.PerSecond <= 0 || r.ReadP50 <= 0 || r.PostP50 <= 0 || r.Efficiency <= 0 || r.Workers == 1 && r.Efficiency != 1 {
			t.Errorf("%+v is not complete", r)
		}
	}
	if want := []string{"lww, 1", "lww, 2", "causal, 1", "causal, 2"}; !slices.Equal(cases, want) {
		t.Errorf("cases %q, want %q", cases, want)
	}
	err := Retwis(t.Context(), RetwisConfig{Workers: []int{0}}, &bytes.Buffer{})
	if !errors.Is(err, &wire.Error{Kind: wire.KindBadArgument}) {
		t.Errorf("on no workers: %v", err)
	}
}

// A wrong outcome, or a part that can't be started, is the experiment's error.
func TestFailure(t *testing.T) {
	wrong := errors.New("wrong")
	w := &way{name: "x", do: func(_ context.Context, n int) error {
		if n > 7 {
			return wrong
		}
		return nil
	}}
	if err := race(t.Context(), []*way{w}, 10, 2, 2); !errors.Is(err, wrong) {
		t.Errorf("race = %v, want %v", err, wrong)
	}
	cfg := Common{Store: t.TempDir(), Exe: "/dev/null"}
	if err := Gossip(t.Context(), GossipConfig{Common: cfg}, &bytes.Buffer{}); err == nil {
		t.Error("with a program that can't be run there was no error")
	}
	if left, err := os.ReadDir(cfg.Store); err != nil || len(left) > 0 {
		t.Errorf("left behind in the store: %v, %v", left, err)
	}
	for _, arg := range []string{"{", `{"Serves":"dinner"}`} {
		if err := Serve(t.Context(), arg, &bytes.Buffer{}); !errors.Is(err, &wire.Error{Kind: wire.KindBadArgument}) {
			t.Errorf("Serve(%s) = %v", arg, err)
		}
	}
}

// The stages take what they should, and refuse the rest.
func TestStages(t *testing.T) {
	a, err := newImages(1, 2)
	if err != nil {
		t.Fatal(err)
	}
	pixels, err := resize(a.photos[0])
	if err != nil || len(pixels) != side*side*3 {
		t.Errorf("resized to %d bytes, %v", len(pixels), err)
	}
	if slices.Equal(a.want[0], a.want[1]) {
		t.Error("two pictures give the same prediction to the last digit")
	}
	for _, p := range a.want[0] {
		if p.P <= 0 || p.P > 1 {
			t.Errorf("prediction %+v isn't a probability", p)
		}
	}
	if _, err := resize([]byte("no picture")); err == nil {
		t.Error("resize takes anything")
	}
	if _, err := a.model.logits(pixels[1:]); err == nil {
		t.Error("the model takes anything")
	}
	// One filter that copies the middle of channel 0 halves the picture.
	c := convolution{1, 1, []float32{0, 0, 0, 0, 1, 0, 0, 0, 0}}
	if got := c.apply([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, 4); !slices.Equal(got, []float32{1, 3, 9, 11}) {
		t.Errorf("every second pixel is %v", got)
	}
	if got := combine([]float32{1, 3, 2}); len(got) != 3 || got[0].Class != "class 1" || got[2].Class != "class 0" {
		t.Errorf("the likeliest first: %+v", got)
	}
	if got := combine(nil); got != nil {
		t.Errorf("of nothing: %+v", got)
	}
	if got := octets(pixels); got.IsJSON() {
		t.Error("pixels pass for JSON")
	}
}
