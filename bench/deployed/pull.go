package deployed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
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
func Pull(ctx context.Context, cfg PullConfig, out io.Writer) (err error) {
	if cfg.Size <= 0 {
		cfg.Size = 10_000_000
	}
	if cfg.Rounds <= 0 {
		cfg.Rounds = 9
	}
	dir, err := os.MkdirTemp(cfg.Store, "cloudburst-bench-")
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: filepath.Join(dir, "store")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	client, err := cloudburst.Connect(ctx, server.URL())
	if err != nil {
		return err
	}
	defer client.Close()
	images, err := large(cfg.Size)
	if err != nil {
		return err
	}
	stop, err := serve(ctx, server.URL(), filepath.Join(dir, "deploy"), 1)
	if err != nil {
		return err
	}
	if err := deployReady(ctx, client); err != nil {
		return errors.Join(err, stop())
	}
	var digests []string
	for _, im := range images {
		f, err := client.Deploy(ctx, cloudburst.Deployment{Name: "large-" + im.name, Image: im.image})
		if err != nil {
			return errors.Join(err, stop())
		}
		digests = append(digests, f.Image)
	}
	if err := stop(); err != nil {
		return err
	}
	rows := make([]Pulled, len(images))
	for i, im := range images {
		p := pull{client: client, url: server.URL(), dir: filepath.Join(dir, im.name), function: "large-" + im.name, digest: digests[i]}
		if rows[i], err = p.run(ctx, cfg.Rounds); err != nil {
			return fmt.Errorf("%s: %w", im.name, err)
		}
		rows[i].Runtime, rows[i].Size = im.name, len(im.image)
	}
	return writePulled(out, rows, cfg.JSON)
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
	zipped, err := deployments.Pack([]string{"data.bin", "main.py"}, func(name string) ([]byte, error) { return files[name], nil })
	if err != nil {
		return nil, err
	}
	return []square{{"wasm", constant("25", data)}, {"python", zipped}}, nil
}

// pull is one function's turn.
type pull struct {
	client                     *cloudburst.Client
	url, dir, function, digest string
}

func (p *pull) run(ctx context.Context, rounds int) (Pulled, error) {
	var reads, firsts []time.Duration
	for round := range rounds {
		began := time.Now()
		if err := p.client.Broker().Image(ctx, p.digest, io.Discard); err != nil {
			return Pulled{}, err
		}
		reads = append(reads, time.Since(began))
		stop, err := serve(ctx, p.url, filepath.Join(p.dir, fmt.Sprint(round)), 1)
		if err != nil {
			return Pulled{}, err
		}
		if err := callReady(ctx, p.client); err != nil {
			return Pulled{}, errors.Join(err, stop())
		}
		began = time.Now()
		got, err := cloudburst.Call[int](ctx, p.client, p.function, 5)
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
	if asJSON {
		enc := json.NewEncoder(out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"runtime", "image MB", "read ms", "first call ms", "ratio"})
	for _, r := range rows {
		t.AppendRow(table.Row{r.Runtime, fmt.Sprintf("%.1f", float64(r.Size)/1e6), digits(r.Read), digits(r.First), fmt.Sprintf("%.2f", r.Ratio)})
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}
