package deployed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/deployments"
)

// PullConfig describes first calls of large functions. The zero value works.
type PullConfig struct {
	Size   int    // of the image, in bytes. Default 10 MB
	Rounds int    // Default 9
	JSON   bool   // an object a row, instead of a table
	Store  string // existing directory to keep the data under meanwhile
}

// Pulled is what came of one runtime. Times are medians, in milliseconds.
type Pulled struct {
	Runtime string  `json:"runtime"`
	Size    int     `json:"size"`
	Read    float64 `json:"read_ms"`  // of the object, by a client that keeps it in memory
	First   float64 `json:"first_ms"` // first call, on a worker with an empty disk
	Ratio   float64 `json:"ratio"`
}

// Pull measures the first call of a large function on a worker that has served
// others and never seen this one, beside reading its image from the object store, turn and turn about.
func Pull(ctx context.Context, cfg PullConfig, out io.Writer) error {
	if cfg.Size <= 0 {
		cfg.Size = 10_000_000
	}
	if cfg.Rounds <= 0 {
		cfg.Rounds = 9
	}
	images, err := large(cfg.Size)
	if err != nil {
		return err
	}
	return on(ctx, cfg.Store, func(s *site) error {
		digests, err := s.deployLarge(ctx, images)
		if err != nil {
			return err
		}
		rows := make([]Pulled, len(images))
		for i, im := range images {
			p := pull{site: s, name: im.name, digest: digests[i]}
			if rows[i], err = p.run(ctx, cfg.Rounds); err != nil {
				return fmt.Errorf("%s: %w", im.name, err)
			}
			rows[i].Runtime, rows[i].Size = im.name, len(im.image)
		}
		return writePulled(out, rows, cfg.JSON)
	})
}

// deployLarge deploys images, and what callReady calls, and returns their digests.
func (s *site) deployLarge(ctx context.Context, images []square) (digests []string, err error) {
	stop, err := s.serve(ctx, "deploy", 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := deployReady(ctx, s.client); err != nil {
		return nil, err
	}
	for _, im := range images {
		f, err := s.client.Deploy(ctx, cloudburst.Deployment{Name: "large-" + im.name, Image: im.image})
		if err != nil {
			return nil, err
		}
		digests = append(digests, f.Image)
	}
	return digests, nil
}

// deployReady deploys a small function of each runtime.
func deployReady(ctx context.Context, client *cloudburst.Client) error {
	for _, s := range squares() {
		if _, err := client.Deploy(ctx, cloudburst.Deployment{Name: "ready-" + s.name, Image: s.image}); err != nil {
			return err
		}
	}
	return nil
}

// callReady has a worker that has just started find its interpreter and the like,
// which it does once, whatever it serves.
func callReady(ctx context.Context, client *cloudburst.Client) error {
	for _, s := range squares() {
		if _, err := cloudburst.Call[int](ctx, client, "ready-"+s.name, 1); err != nil {
			return err
		}
	}
	return nil
}

// large returns images of a size, of which most is data that can't be compressed.
func large(size int) ([]square, error) {
	data := make([]byte, size)
	noise := rand.NewChaCha8([32]byte{1})
	if _, err := noise.Read(data); err != nil {
		return nil, err
	}
	files := map[string][]byte{"data.bin": data, "main.py": []byte(squareSource)}
	zipped, err := deployments.Pack([]string{"data.bin", "main.py"}, func(name string) ([]byte, bool, error) { return files[name], false, nil })
	if err != nil {
		return nil, err
	}
	return []square{{"wasm", constant("25", data)}, {"python", zipped}}, nil
}

// pull is one function's turn.
type pull struct {
	*site
	name, digest string
}

func (p *pull) run(ctx context.Context, rounds int) (Pulled, error) {
	var reads, firsts []time.Duration
	for round := range rounds {
		began := time.Now()
		if err := p.client.Broker().Image(ctx, p.digest, io.Discard); err != nil {
			return Pulled{}, err
		}
		reads = append(reads, time.Since(began))
		stop, err := p.serve(ctx, fmt.Sprint(p.name, round), 1)
		if err != nil {
			return Pulled{}, err
		}
		if err := callReady(ctx, p.client); err != nil {
			return Pulled{}, errors.Join(err, stop())
		}
		began = time.Now()
		got, err := cloudburst.Call[int](ctx, p.client, "large-"+p.name, 5)
		firsts = append(firsts, time.Since(began))
		if err == nil && got != 25 {
			err = fmt.Errorf("5 squared is %d", got)
		}
		if err := errors.Join(err, stop()); err != nil {
			return Pulled{}, err
		}
	}
	slices.Sort(reads)
	slices.Sort(firsts)
	r := Pulled{Read: at(reads, 50), First: at(firsts, 50)}
	r.Ratio = r.First / r.Read
	return r, nil
}

func writePulled(out io.Writer, rows []Pulled, asJSON bool) error {
	header := table.Row{"runtime", "image MB", "read ms", "first call ms", "ratio"}
	return write(out, rows, asJSON, header, func(r Pulled) table.Row {
		return table.Row{r.Runtime, fmt.Sprintf("%.1f", float64(r.Size)/1e6), digits(r.Read), digits(r.First), digits(r.Ratio)}
	})
}
