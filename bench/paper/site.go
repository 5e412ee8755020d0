package paper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/process"
)

// Common says where an experiment runs and how it is shown. The zero value works.
type Common struct {
	// JSON has one JSON object written for each row, instead of a table.
	JSON bool
	// Store is an existing directory under which the server keeps its data, which
	// is removed in the end. Default: the system's temporary directory.
	Store string
	// Exe is the program that plays the workers: with the arguments "role", Role
	// and another one it passes the last one to Serve. Default: this program.
	Exe string
}

// A site is a server and worker processes. Close ends them.
type site struct {
	client  *cloudburst.Client // over loopback, as the workers are
	workers []*process.Process
	ends    []func() error
}

// openSite brings a server up and the workers, and has fail called should one end.
func openSite(ctx context.Context, fail context.CancelCauseFunc, cfg Common, parts ...part) (s *site, err error) {
	s = &site{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if cfg.Exe == "" {
		if cfg.Exe, err = os.Executable(); err != nil {
			return s, fmt.Errorf("find this program: %w", err)
		}
	}
	dir, err := os.MkdirTemp(cfg.Store, "cloudburst-bench-")
	if err != nil {
		return s, fmt.Errorf("make store: %w", err)
	}
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: filepath.Join(dir, "store")})
	if err != nil {
		return s, err
	}
	s.ends = append(s.ends, server.Close)
	if s.client, err = cloudburst.Connect(ctx, server.URL(), cloudburst.WithName("bench caller")); err != nil {
		return s, err
	}
	s.ends = append(s.ends, func() error { s.client.Close(); return nil }, s.endWorkers)
	for _, p := range parts {
		p.URL = server.URL()
		arg, err := json.Marshal(p)
		if err != nil {
			return s, err
		}
		worker, err := process.Start(ctx, exec.Command(cfg.Exe, "role", Role, string(arg)), fail)
		if err != nil {
			return s, fmt.Errorf("worker of %s: %w", p.Serves, err)
		}
		s.workers = append(s.workers, worker)
	}
	return s, nil
}

func (s *site) endWorkers() error {
	errs := make([]error, len(s.workers))
	var all sync.WaitGroup
	for i, w := range s.workers {
		all.Go(func() { errs[i] = w.End() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// close ends everything, last opened first. It may be called once.
func (s *site) close() error {
	var errs []error
	for _, end := range slices.Backward(s.ends) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// at opens a site, does something there, and closes it. A worker that ends by itself
// ends what is done, and is why.
func at(ctx context.Context, cfg Common, do func(ctx context.Context, s *site) error, parts ...part) (err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s, err := openSite(ctx, fail, cfg, parts...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err = do(ctx, s); err != nil && ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return err
}
