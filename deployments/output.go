package deployments

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

const (
	// printedAtMost bounds the log of one execution, in bytes and in lines: a
	// function that prints in a loop would fill the logs of all.
	printedAtMost = 1 << 20
	linesAtMost   = 10_000
	lineAtMost    = 64 << 10
)

// output takes what one execution prints and stores each line by itself.
func (p *parts) output(call *wire.Call, of *wire.Function) io.Writer {
	return &output{
		b: p.b, bytes: printedAtMost, lines: linesAtMost,
		line: broker.LogLine{Function: of.Name, Version: of.Version, Run: call.Run, Worker: p.id},
	}
}

type output struct {
	b    *broker.Broker
	line broker.LogLine

	mu           sync.Mutex // guards what is left
	bytes, lines int
}

// Write stores lines. It never fails: a function isn't ended by its log.
func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range bytes.Lines(text) {
		for len(line) > lineAtMost {
			o.printLocked(line[:lineAtMost])
			line = line[lineAtMost:]
		}
		o.printLocked(line)
	}
	return len(text), nil
}

func (o *output) printLocked(line []byte) {
	if o.lines < 0 {
		return
	}
	o.lines--
	if o.bytes -= len(line); o.bytes < 0 || o.lines < 0 {
		o.lines, line = -1, []byte("… and more: the log of one call ends here")
	}
	o.line.Text = strings.ToValidUTF8(string(bytes.TrimRight(line, "\r\n")), "\uFFFD")
	// Lost when the connection is: the function goes on.
	_ = o.b.WriteLog(o.line)
}

// callable is what functions can call: everything on the platform.
type callable struct{ b *broker.Broker }

var _ runtime.Functions = callable{}

// Start calls a function; the call is a run of its own.
func (c callable) Start(ctx context.Context, name string, args wire.Value, run wire.RunID) (wire.RunID, error) {
	if err := wire.CheckName("function", name); err != nil {
		return "", err
	}
	depth, err := runtime.Nested(ctx, name)
	if err != nil {
		return "", err
	}
	call := wire.Call{Name: name, Args: args, Run: run, Depth: depth}
	if known := runtime.StampsOf(ctx, nil); known != nil {
		call.Past = known.Known()
	}
	p, err := c.b.Start(ctx, call)
	if err != nil {
		return "", err
	}
	defer p.Close()
	return p.Run, p.Stored(ctx)
}

// Await returns what a run returned.
func (c callable) Await(ctx context.Context, run wire.RunID) (wire.Value, error) {
	var r wire.Result
	err := runtime.Block(ctx, func() (err error) {
		r, err = c.b.Await(ctx, run)
		return err
	})
	if known := runtime.StampsOf(ctx, nil); known != nil && err == nil {
		known.Learn(r.Past)
	}
	switch {
	case err != nil:
		return wire.Value{}, err
	case r.Err != nil:
		return wire.Value{}, r.Err
	case r.Status != wire.StatusOK:
		return wire.Value{}, &wire.Error{Op: "await", Name: string(run), Kind: wire.KindFunction, Msg: "ended " + string(r.Status)}
	}
	return r.Value, nil
}

// post carries messages between functions.
type post struct{ *broker.Broker }

var _ workers.Post = post{}

// Open begins to receive what is sent to an execution.
func (p post) Open(to string) (workers.Mailbox, error) {
	box, err := p.OpenMailbox(to)
	if err != nil {
		return nil, err
	}
	return box, nil
}
