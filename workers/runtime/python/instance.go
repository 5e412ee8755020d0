package python

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/guest"
)

// For how long the worker, and an instance, look for what comes before they sleep. An
// instance sleeps through the worker's part of a call, which is the longer one.
const (
	eagerFor         = 100 * time.Microsecond
	instanceEagerFor = 200 * time.Microsecond
)

// An instance is a process that runs one call at a time.
type instance struct {
	f        *function
	user     identity
	home     string
	process  *os.Process
	conn     *os.File
	frames   frames
	lifeline *os.File // the process ends when this is closed
	out      output
	since    time.Time // when it became idle; guarded by the function's mutex

	ending sync.Once
	ended  atomic.Bool   // it takes no more calls
	gone   chan struct{} // closed when the process has been waited for
	state  *os.ProcessState
}

// start starts a process and has it import the program once prepare has returned, if
// that isn't nil. Its place is free again if there is an error.
func (f *function) start(ctx context.Context, prepare func() error) (*instance, error) {
	in, err := f.launch()
	if err != nil {
		return nil, err
	}
	var unprepared error
	ready, err := in.converse(ctx, &runtime.Call{Function: f.name}, func() error {
		if prepare != nil {
			unprepared = prepare()
		}
		if unprepared != nil {
			return unprepared
		}
		return in.frames.first()
	})
	if unprepared != nil {
		in.end()
		return nil, unprepared
	}
	if err == nil {
		if len(ready.Body) > 0 {
			f.runtime.unconfined.Do(func() {
				f.runtime.cfg.Warn(string(ready.Body))
			})
		}
		return in, nil
	}
	in.end()
	var e *wire.Error
	if errors.Is(err, errKilled) { // not by what the program did, or not only
		return nil, &wire.Error{Op: "import", Name: f.name, Kind: wire.KindUnavailable, Msg: err.Error(), Err: err}
	}
	if errors.As(err, &e) && (e.Kind == wire.KindPanic || e.Kind == wire.KindInvalid) {
		return nil, &wire.Error{Op: "import", Name: f.name, Kind: wire.KindInvalid, Msg: e.Msg, Stack: e.Stack}
	}
	return nil, err
}

// launch starts a process.
func (f *function) launch() (_ *instance, err error) {
	in := &instance{f: f, user: f.python.ids.take(), gone: make(chan struct{})}
	var ours, theirs []*os.File
	defer func() {
		for _, file := range theirs {
			_ = file.Close() // the process has its own
		}
		if err == nil {
			return
		}
		for _, file := range ours {
			_ = file.Close() // nothing was written
		}
		if in.home != "" {
			remove(in.home)
		}
		f.python.ids.give(in.user)
		if _, known := errors.AsType[*wire.Error](err); !known {
			err = &wire.Error{Op: "start", Name: f.name, Kind: wire.KindUnavailable, Msg: err.Error(), Err: err}
		}
	}()
	if in.home, err = os.MkdirTemp(f.home.dir, "instance-"); err != nil {
		return nil, err
	}
	if in.user.switched {
		if err := os.Chown(in.home, int(in.user.id), int(f.group.id)); err != nil {
			return nil, err
		}
	}
	conn, theirConn, err := socketPair()
	if err != nil {
		return nil, err
	}
	ours, theirs = append(ours, conn), append(theirs, theirConn)
	outputs, output, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ours, theirs = append(ours, outputs), append(theirs, output)
	theirLife, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ours, theirs = append(ours, life), append(theirs, theirLife)
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, null)
	in.conn, in.lifeline = conn, life
	if in.frames.conn, err = newEager(conn); err != nil {
		return nil, err
	}
	if err := in.out.open(outputs); err != nil {
		return nil, err
	}
	return in, in.exec([]*os.File{null, output, output, theirConn, theirLife})
}

// exec starts the process, unless the function was closed, and what waits for it.
func (in *instance) exec(files []*os.File) (err error) {
	f := in.f
	f.mu.Lock()
	closed := f.closed
	if !closed {
		f.running.Add(2) // before Close waits
	}
	f.mu.Unlock()
	if closed {
		return f.unloaded()
	}
	args, err := f.arguments()
	if err == nil {
		in.process, err = in.startProcess(args, files)
	}
	if err != nil {
		f.running.Add(-2)
		return err
	}
	f.mu.Lock()
	f.live[in] = struct{}{}
	closed = f.closed
	f.mu.Unlock()
	go in.wait()
	go func() {
		defer f.running.Done()
		in.out.run()
	}()
	if closed { // and didn't know of it
		in.end()
	}
	return nil
}

// startProcess starts the process, where that can be done with temporary directories of its own.
func (in *instance) startProcess(args []string, files []*os.File) (*os.Process, error) {
	f := in.f
	start := func() (*os.Process, error) {
		return startProcess(args, in.home, environment(in.home), files, in.user, f.group)
	}
	if f.runtime.shares.Load() {
		return start()
	}
	keep := append([]string{f.home.dir}, f.python.places...)
	process, mounted, err := privately(in.home, append(keep, f.runtime.cfg.Read...), start)
	if mounted == nil {
		return process, err
	}
	if f.runtime.shares.CompareAndSwap(false, true) && os.Geteuid() == 0 {
		f.runtime.cfg.Warn(fmt.Sprintf("Python functions share /tmp with the machine: %v", mounted))
	}
	return start()
}

// end kills the process, if it is still there, and takes it out of use.
func (in *instance) end() {
	in.ending.Do(func() {
		in.ended.Store(true)
		killGroup(in.process.Pid)
		hangUp(in.conn)
	})
}

// wait waits for the process and clears up after it.
func (in *instance) wait() {
	f := in.f
	defer f.running.Done()
	in.state, _ = in.process.Wait() // then nothing is known of its end
	in.end()
	killGroup(in.process.Pid) // what was started while it ended
	f.python.ids.sweep(in.user)
	in.out.close()
	close(in.gone)
	_ = errors.Join(in.conn.Close(), in.lifeline.Close()) // only our end is left
	remove(in.home)
	f.python.ids.give(in.user)
	f.died(in)
}

// run runs a call.
func (in *instance) run(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	return in.converse(ctx, call, func() error { return in.frames.invoke(call.Args) })
}

// converse has the process do what begin asks for, and answers its requests until it
// is done. The instance has ended if the time was up or the process can't go on.
func (in *instance) converse(ctx context.Context, call *runtime.Call, begin func() error) (wire.Value, error) {
	in.out.begin(call.Log)
	stop := context.AfterFunc(ctx, in.end)
	host := guest.NewHost(ctx, call)
	err := begin()
	var value wire.Value
	if err == nil {
		value, err = in.frames.answer(host)
	}
	inTime := stop()
	if broken := (*brokenError)(nil); errors.As(err, &broken) && inTime {
		err = in.crashed(ctx, broken)
	}
	if failed := (*failedError)(nil); errors.As(err, &failed) {
		if failed.last {
			in.end()
		}
		err = host.Failure(failed.kind, failed.msg, failed.stack)
	}
	in.out.end()
	if cause := context.Cause(ctx); cause != nil {
		in.end() // also where the answer came at the last moment
		return wire.Value{}, cause
	}
	return value, err
}

// crashed makes an error of a connection that broke: the process has ended, or what
// it sent makes no sense.
func (in *instance) crashed(ctx context.Context, broken *brokenError) error {
	// A process that ends closes its connection first, and how it ended is known soon.
	const soon = time.Second
	how := ""
	if broken.ended {
		timer := time.NewTimer(soon)
		defer timer.Stop()
		select {
		case <-in.gone:
			how = exitOf(in.state)
		case <-timer.C:
			how = "closed its connection to the worker, and was ended"
		case <-ctx.Done():
		}
	} else {
		how = broken.what + ", and was ended"
	}
	in.end()
	if in.f.isClosed() {
		return in.f.unloaded()
	}
	in.out.end()
	e := &wire.Error{Op: "run", Name: in.f.name, Kind: wire.KindPanic, Msg: "its process " + how}
	if how == errKilled.Error() {
		e.Msg += ": it took more memory than the machine has, or somebody killed it"
		e.Err = errKilled
	}
	if tail := in.out.last(); tail != "" {
		// Of a fault in C code that is where Python was.
		e.Stack = "the last it printed:\n" + strings.ReplaceAll(tail, filepath.Join(in.f.home.dir, "code")+"/", "")
	}
	return e
}

// errKilled is the end of a process that the kernel, or somebody else, has killed.
var errKilled = errors.New("was killed")
