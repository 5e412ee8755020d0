package python

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// An interpreter is a Python that runs, and the users it runs as.
type interpreter struct {
	path string
	ids  *identities
	// modules is where it looks for modules. Instances are told, and don't look for
	// that themselves: on some machines that takes longer than all else of a start.
	modules []string
	// places are where its files are.
	places []string
}

// Look finds the interpreter ahead of time; else the first Load does, which takes
// it as long as two starts of Python.
func (r *Runtime) Look(ctx context.Context) error {
	_, err := r.interpreter(ctx)
	return err
}

// interpreter returns the Python of the configuration, which it looks for once it
// is needed, and again until it has found one.
func (r *Runtime) interpreter(ctx context.Context) (*interpreter, error) {
	select {
	case r.place <- struct{}{}:
		defer func() { <-r.place }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if r.found != nil {
		return r.found, nil
	}
	path, err := exec.LookPath(r.cfg.Interpreter)
	if err != nil {
		return nil, fmt.Errorf("no Python: install python3 (3.8 or later; apt install python3) on the worker's machine, or configure the interpreter's path: %w", err)
	}
	ids := newIdentities()
	python, err := r.try(ctx, path, ids)
	if err != nil && ids.switches() {
		// As where Python is installed in the home of root, or in a container with few users.
		why := err
		if python, err = r.try(ctx, path, nil); err == nil {
			r.cfg.Warn(fmt.Sprintf("Python functions run as the worker's own user, root: others can't run %s from %s: %v", path, r.cfg.Scratch, why))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", path, err)
	}
	clearScratch(r.cfg.Scratch, time.Now())
	r.found = python
	return r.found, nil
}

// about is a program that tells what runs it: a name in PATH may be a script that
// takes longer to find its Python than that takes to start.
const about = `import json, sys; print(json.dumps([sys.executable, sys.version_info[:2], [p for p in sys.path[1:] if p], [sys.prefix, sys.base_prefix]]))`

// try has an interpreter run as one of the identities, from where its programs will
// be, and returns the Python that it is.
func (r *Runtime) try(ctx context.Context, path string, ids *identities) (*interpreter, error) {
	id := ids.take()
	defer ids.give(id)
	home, err := makeHome(r.cfg.Scratch, id)
	if err != nil {
		return nil, err
	}
	defer home.leave()
	script := filepath.Join(home.dir, "about.py")
	if err := writeFile(script, []byte(about), 0o644); err != nil {
		return nil, err
	}
	// This is a fresh interpreter's first start, which may have to come from a slow disk.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	said, failed, err := capture(ctx, []string{path, "-I", script}, home.dir, id)
	if err != nil {
		return nil, err
	}
	var answer struct {
		path    string
		version [2]int
		modules []string
		places  []string
	}
	if err := json.Unmarshal(said, &[]any{&answer.path, &answer.version, &answer.modules, &answer.places}); err != nil || answer.path == "" {
		return nil, fmt.Errorf("it isn't a Python: it says %.200q, and %.200q", said, failed)
	}
	if v := answer.version; v[0] != 3 || v[1] < 8 {
		return nil, fmt.Errorf("it is Python %d.%d, and 3.8 is needed", v[0], v[1])
	}
	return &interpreter{answer.path, ids, answer.modules, append(answer.places, answer.modules...)}, nil
}

// capture runs a command and returns what it prints.
func capture(ctx context.Context, args []string, dir string, id identity) (out, failed []byte, err error) {
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer outR.Close() //nolint:errcheck // only read
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, nil, errors.Join(err, outW.Close())
	}
	defer errR.Close() //nolint:errcheck // only read
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, errors.Join(err, outW.Close(), errW.Close())
	}
	process, err := startProcess(args, dir, environment(dir), []*os.File{null, outW, errW}, id, id)
	_ = errors.Join(null.Close(), outW.Close(), errW.Close()) // the child's
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { killGroup(process.Pid) })
	defer stop()
	out, err = io.ReadAll(io.LimitReader(outR, 4<<10))
	failed, err2 := io.ReadAll(io.LimitReader(errR, 4<<10))
	_, err3 := process.Wait()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	return out, failed, errors.Join(err, err2, err3)
}

// environment is all that an instance knows of the worker's.
func environment(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8", "LC_ALL=C.UTF-8",
		// Calls run beside each other in instances; the thread pools of numpy's
		// libraries would only take memory.
		"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1",
	}
}
