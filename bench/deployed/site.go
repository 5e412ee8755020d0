package deployed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
)

// A site is a platform on loopback, with a client and a directory.
type site struct {
	dir, url string
	client   *cloudburst.Client
	apart    bool // its parts are processes
	exe      string
	fail     func(error) // what happens when one ends by itself
}

// on has do work on a site that keeps its data under a directory, or under the
// system's temporary one, and is gone afterwards.
func on(ctx context.Context, under string, do func(*site) error) (err error) {
	dir, err := os.MkdirTemp(under, "cloudburst-bench-")
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
	return do(&site{dir: dir, url: server.URL(), client: client})
}

// serve runs n workers of deployed functions, each of which keeps images in a
// directory of its own below dir, until stop.
func (s *site) serve(ctx context.Context, dir string, n int) (stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for _, end := range stops {
			errs = append(errs, end())
		}
		return errors.Join(errs...)
	}
	for i := range n {
		end, err := s.work(ctx, imageWorker(s.images(dir, i)))
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		stops = append(stops, end)
	}
	return stop, nil
}

// images is where a worker keeps them.
func (s *site) images(dir string, i int) string {
	return filepath.Join(s.dir, dir, fmt.Sprint("images", i))
}

// imageWorker makes a worker of deployed functions.
func imageWorker(images string) func(*cloudburst.Client) *cloudburst.Worker {
	return func(c *cloudburst.Client) *cloudburst.Worker {
		return cloudburst.NewWorker(c, cloudburst.Deployed(images))
	}
}

// work runs a worker on a connection of its own until stop.
func (s *site) work(ctx context.Context, worker func(*cloudburst.Client) *cloudburst.Worker) (stop func() error, err error) {
	client, err := cloudburst.Connect(ctx, s.url, cloudburst.WithName("bench worker"))
	if err != nil {
		return nil, err
	}
	w := worker(client)
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(serving) }()
	stop = func() error {
		cancel()
		err := <-ended
		client.Close()
		return err
	}
	select {
	case <-w.Ready():
		return stop, nil
	case err := <-ended:
		ended <- nil
		return nil, errors.Join(err, stop())
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), stop())
	}
}

// write shows rows: as JSON an object each, or as a table.
func write[T any](out io.Writer, rows []T, asJSON bool, header table.Row, row func(T) table.Row) error {
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
	t.AppendHeader(header)
	for _, r := range rows {
		t.AppendRow(row(r))
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}
