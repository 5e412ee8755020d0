package deployed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/process"
	"github.com/cloudburst-nats/cloudburst/internal/loopback"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Role is the part that a process of a site plays: `cloudburst-bench role` with it and
// its argument has to call Serve.
const Role = "deployed"

// A part is what a process is told: a server's address and store, or else where a
// worker finds a server and images.
type part struct {
	Listen string
	Store  string
	URL    string
	Images string
}

// Serve plays a server or a worker until ctx ends, and writes a line to out once it is
// ready.
func Serve(ctx context.Context, arg string, out io.Writer) (err error) {
	var p part
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return &wire.Error{Op: "role", Kind: wire.KindBadArgument, Name: Role, Msg: err.Error(), Err: err}
	}
	stop := func() error { return nil }
	if p.Listen != "" {
		server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: p.Listen, Store: p.Store})
		if err != nil {
			return err
		}
		stop = server.Close
	} else {
		s := &site{url: p.URL}
		native, err := s.work(ctx, nativeWorker)
		if err != nil {
			return err
		}
		images, err := s.work(ctx, imageWorker(p.Images))
		if err != nil {
			return errors.Join(err, native())
		}
		stop = func() error { return errors.Join(images(), native()) }
	}
	defer func() { err = errors.Join(err, stop()) }()
	if _, err := fmt.Fprintln(out, process.Ready); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// apart does as on does, with the server in a process of its own. ctx ends should
// a part end by itself.
func apart(ctx context.Context, exe, under string, do func(context.Context, *site) error) (err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	dir, err := os.MkdirTemp(under, "cloudburst-bench-")
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	addr, err := loopback.FreeAddr("127.0.0.1")
	if err != nil {
		return err
	}
	end, err := play(ctx, fail, exe, part{Listen: addr, Store: filepath.Join(dir, "store")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	url := "nats://" + addr
	client, err := cloudburst.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(ctx, &site{dir: dir, url: url, client: client, apart: true, exe: exe, fail: fail})
}

// play starts a process that plays a part, until end.
func play(ctx context.Context, fail func(error), exe string, p part) (end func() error, err error) {
	if exe == "" {
		if exe, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
	}
	arg, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	started, err := process.Start(ctx, exec.Command(exe, "role", Role, string(arg)), fail) //nolint:gosec,noctx // this program; End ends it
	if err != nil {
		return nil, err
	}
	return started.End, nil
}
