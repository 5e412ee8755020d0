package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/anomalies"
	"github.com/cloudburst-nats/cloudburst/bench/deployed"
	"github.com/cloudburst-nats/cloudburst/bench/faults"
	"github.com/cloudburst-nats/cloudburst/bench/paper"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// The parts that processes play.
const (
	roleServer      = "server"       // argument: the store's directory
	roleFloorWorker = "floor-worker" // argument: the server's URL
	roleWorker      = "worker"       // argument: the server's URL
	roleScaled      = "scaled"       // argument: the server's URL
	roleHot         = "local-hot"    // argument: the server's URL
	roleCold        = "local-cold"   // argument: the server's URL
	roleZipfOn      = "zipf-on"      // with ":<bytes>" of its cache; argument: the server's URL
	roleZipfOff     = "zipf-off"     // likewise
	roleGrown       = "grown"        // argument: how many functions, a comma, and the server's URL
)

// Role plays one part of a benchmark in a process of its own: "server
// DIRECTORY", "floor-worker URL", "worker URL", "scaled URL", "grown COUNT,URL", or
// a part of another benchmark and what it is told. It writes the line "ready URL" to out once it is up (the last one, "ready"), and
// plays until ctx ends or the process's standard input does, so that no part
// outlives the benchmark that started it.
func Role(ctx context.Context, args []string, out io.Writer) error { //nolint:funlen // a list of roles
	if len(args) != 2 {
		return &wire.Error{Op: "role", Kind: wire.KindBadArgument, Msg: "want a role and its argument"}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Nothing can interrupt this read; it ends with the process.
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin) // the end is the end, however it came
	}()
	role, at := args[0], args[1]
	switch role {
	case roleServer:
		return playServer(ctx, at, out)
	case anomalies.Role:
		return anomalies.Serve(ctx, at, out)
	case deployed.Role:
		return deployed.Serve(ctx, at, out)
	case paper.Role:
		return paper.Serve(ctx, at, out)
	case faults.RoleNode, faults.RoleWorker:
		return faults.Serve(ctx, role, at, out)
	}
	serve := serveFloorWorker
	switch role {
	case roleFloorWorker:
	case roleWorker:
		serve = serveWorker
	case roleScaled:
		serve = func(ctx context.Context, b *broker.Broker, ready func()) error {
			return serveScaled(ctx, b, ready, cloudburst.Slots(scaleProcessSlots))
		}
	case roleHot:
		serve = serveHot
	case roleCold:
		serve = serveCold
	case roleGrown:
		count, url, err := parseGrown(at)
		if err != nil {
			return &wire.Error{Op: "role", Kind: wire.KindBadArgument, Name: role, Msg: "want COUNT,URL", Err: err}
		}
		at = url
		serve = func(ctx context.Context, b *broker.Broker, ready func()) error {
			return serveGrown(ctx, b, ready, count)
		}
	default:
		name, bytes, _ := strings.Cut(role, ":")
		zipf, err := zipfRole(name, bytes)
		if err != nil {
			return err
		}
		serve = zipf
	}
	b, err := broker.Connect(ctx, broker.Config{Name: "bench " + role, URL: at})
	if err != nil {
		return err
	}
	defer b.Close()
	var told error
	err = serve(ctx, b, func() {
		if told = ready(out, at); told != nil {
			cancel()
		}
	})
	return errors.Join(told, err)
}

func playServer(ctx context.Context, store string, out io.Writer) error {
	p, err := startPlatform(ctx, store, "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := ready(out, p.server.URL()); err != nil {
		return errors.Join(err, p.close())
	}
	<-ctx.Done()
	return p.close()
}

const readyWord = "ready "

func ready(out io.Writer, url string) error {
	_, err := fmt.Fprintln(out, readyWord+url)
	return err
}

// spawnAll brings the parts up in processes of their own.
func (s *site) spawnAll(ctx context.Context, exe, store string) error {
	var err error
	if s.url, err = s.spawn(ctx, exe, roleServer, store); err != nil {
		return err
	}
	for _, role := range []string{roleFloorWorker, roleWorker} {
		if _, err := s.spawn(ctx, exe, role, s.url); err != nil {
			return err
		}
	}
	return nil
}

// How long a process may take to be ready, and to end once it was told to
// before it is killed.
const (
	readyWithin = 2 * time.Minute
	endWithin   = 10 * time.Second
)

// spawn starts a process that plays a role, and returns the URL it is ready
// with. The process ends with the site.
func (s *site) spawn(ctx context.Context, exe, role, arg string) (url string, err error) {
	err = s.start(ctx, func(ctx context.Context, ready func()) error {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		cmd := exec.CommandContext(ctx, exe, "role", role, arg)
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return fmt.Errorf("start %s: %w", role, err)
		}
		cmd.Cancel = stdin.Close // the part ends by itself then, or is killed
		cmd.WaitDelay = endWithin
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return fmt.Errorf("start %s: %w", role, err)
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start %s: %w", role, err)
		}
		s.parts = append(s.parts, part{role, cmd.Process.Pid}) // read once it is ready
		late := time.AfterFunc(readyWithin, stop)
		line, err := bufio.NewReader(stdout).ReadString('\n')
		late.Stop()
		var found bool
		if url, found = strings.CutPrefix(strings.TrimSpace(line), readyWord); found && err == nil {
			ready()
		} else {
			stop()
		}
		if err := cmd.Wait(); err != nil && (!found || !errors.Is(err, context.Canceled)) {
			return fmt.Errorf("process %s, which said %q: %v: %s", role, line, err, strings.TrimSpace(complaint.String())) //nolint:errorlint // a part that was never ready must not pass for cancelled
		}
		return nil
	})
	return url, err
}
