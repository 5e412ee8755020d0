package paper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
)

// PredictionConfig says how many images are classified. The zero value works.
type PredictionConfig struct {
	Common
	// Images is how many each way classifies. Default 200.
	Images int
	// Rounds is how often the ways take turns. Default 5.
	Rounds int
	// Seed draws the images and the model's weights.
	Seed uint64
}

// A PredictionRow is one way to run the pipeline.
type PredictionRow struct {
	Bench string  `json:"bench"` // "prediction"
	Case  string  `json:"case"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	// RatioP50 and RatioP99 are to the plain pipeline of the same run, Overhead is
	// what P50 is above its.
	RatioP50 float64 `json:"ratio_p50"`
	RatioP99 float64 `json:"ratio_p99"`
	Overhead float64 `json:"overhead_ms"`
	Paper    string  `json:"paper"`
}

// The pipeline's functions, all on one worker, or each on one of its own under a name
// that begins with far; and its DAGs.
const (
	fnResize  = "predict-resize"
	fnModel   = "predict-model"
	fnCombine = "predict-combine"
	dagOne    = "predict"
	dagThree  = "predict-far"
	// weights is the seed of the model's weights, the same in all processes.
	weights = 1
)

// Prediction measures a pipeline of three stages: an image of 640 by 480 pixels is
// decoded and resized to 224 by 224, a convolutional network of 49 million
// multiplications with random weights gives each of 1,000 classes a number, and the
// five likeliest are kept:
//
//	plain          three Go functions in this process
//	dag fused      a DAG on one worker process
//	dag 3 workers  a DAG over three, a stage on each
//
// All have to predict the same.
func Prediction(ctx context.Context, cfg PredictionConfig, out io.Writer) error {
	setDefault(&cfg.Images, 200)
	setDefault(&cfg.Rounds, 5)
	images, err := newImages(cfg.Seed, min(cfg.Images, 16))
	if err != nil {
		return fmt.Errorf("prediction: %w", err)
	}
	var ways []*way
	err = at(ctx, cfg.Common, func(ctx context.Context, s *site) error {
		for _, stages := range [][]string{{fnResize, fnModel, fnCombine}, {far + fnResize, far + fnModel, far + fnCombine}} {
			name := dagOne
			if stages[0] != fnResize {
				name = dagThree
			}
			if err := s.client.ApplyDAG(ctx, &cloudburst.Graph{
				Name:  name,
				Nodes: []cloudburst.Node{{Name: stages[0]}, {Name: stages[1]}, {Name: stages[2]}},
				Edges: []cloudburst.Edge{{From: stages[0], To: stages[1]}, {From: stages[1], To: stages[2]}},
			}); err != nil {
				return err
			}
		}
		ways = images.ways(s.client)
		return race(ctx, ways, cfg.Images, min(cfg.Rounds, cfg.Images), 0)
	}, part{Serves: servesPredict}, part{Serves: servesResize}, part{Serves: servesModel}, part{Serves: servesCombine})
	if err != nil {
		return fmt.Errorf("prediction: %w", err)
	}
	rows := make([]PredictionRow, len(ways))
	plain := ways[0]
	for i, w := range ways {
		p50, p99 := w.p(0.5, time.Millisecond), w.p(0.99, time.Millisecond)
		rows[i] = PredictionRow{
			Bench: "prediction", Case: w.name, Paper: w.paper, P50: p50, P99: p99,
			RatioP50: rounded(p50/plain.p(0.5, time.Millisecond), 3), RatioP99: rounded(p99/plain.p(0.99, time.Millisecond), 3),
			Overhead: rounded(p50-plain.p(0.5, time.Millisecond), 3),
		}
	}
	return show(out, cfg.JSON, rows,
		table.Row{"pipeline", "p50 ms", "p99 ms", "p50 ×", "p99 ×", "more, ms", "the paper's"},
		func(r PredictionRow) table.Row {
			return table.Row{r.Case, number(r.P50, 2), number(r.P99, 2), number(r.RatioP50, 2), number(r.RatioP99, 2), number(r.Overhead, 2), r.Paper}
		},
		fmt.Sprintf("%d images each way; the model is a small network with random weights, where the paper's is MobileNet; × is to the plain functions.", cfg.Images))
}

// handleStages adds stages to a worker, under names that begin with prefix.
func handleStages(w *cloudburst.Worker, prefix string, stages ...string) {
	for _, stage := range stages {
		switch stage {
		case servesResize:
			cloudburst.Handle(w, prefix+fnResize, func(_ context.Context, _ *cloudburst.Session, photo cloudburst.Value) (cloudburst.Value, error) {
				pixels, err := resize(photo.Body)
				return octets(pixels), err
			})
		case servesModel:
			model := newNetwork(weights)
			cloudburst.Handle(w, prefix+fnModel, func(_ context.Context, _ *cloudburst.Session, pixels cloudburst.Value) ([]float32, error) {
				return model.logits(pixels.Body)
			})
		case servesCombine:
			cloudburst.Handle(w, prefix+fnCombine, func(_ context.Context, _ *cloudburst.Session, logits []float32) ([]prediction, error) {
				return combine(logits), nil
			})
		}
	}
}

func octets(body []byte) cloudburst.Value {
	return cloudburst.Value{Body: body, Type: "application/octet-stream"}
}

// images are what is classified, and what has to come of each.
type images struct {
	photos [][]byte
	want   [][]prediction
	model  *network
}

func newImages(seed uint64, count int) (*images, error) {
	all := &images{model: newNetwork(weights)}
	for i := range count {
		p, err := photo(seed + uint64(i))
		if err != nil {
			return nil, err
		}
		want, err := all.predict(p)
		if err != nil {
			return nil, err
		}
		all.photos, all.want = append(all.photos, p), append(all.want, want)
	}
	return all, nil
}

// predict is the plain pipeline.
func (all *images) predict(photo []byte) ([]prediction, error) {
	pixels, err := resize(photo)
	if err != nil {
		return nil, err
	}
	logits, err := all.model.logits(pixels)
	if err != nil {
		return nil, err
	}
	return combine(logits), nil
}

// ways returns all ways to predict; the plain one is the first.
func (all *images) ways(c *cloudburst.Client) []*way {
	checked := func(name, paper string, predict func(ctx context.Context, photo []byte) ([]prediction, error)) *way {
		return &way{name: name, paper: paper, do: func(ctx context.Context, n int) error {
			i := n % len(all.photos)
			got, err := predict(ctx, all.photos[i])
			if err == nil && !slices.Equal(got, all.want[i]) {
				err = errors.New("it predicts something else than the plain functions")
			}
			return err
		}}
	}
	call := func(dag string) func(context.Context, []byte) ([]prediction, error) {
		return func(ctx context.Context, photo []byte) ([]prediction, error) {
			return cloudburst.Call[[]prediction](ctx, c, dag, cloudburst.Value{Body: photo, Type: "image/jpeg"})
		}
	}
	return []*way{
		checked("plain", "plain Python 210 ms", func(_ context.Context, photo []byte) ([]prediction, error) { return all.predict(photo) }),
		checked("dag fused", "", call(dagOne)),
		checked("dag 3 workers", "Cloudburst 225 ms: 1.07x; SageMaker 1.6x, Lambda over 5x", call(dagThree)),
	}
}
