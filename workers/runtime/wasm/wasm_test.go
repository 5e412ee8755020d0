package wasm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// newRuntime returns a runtime that keeps what it compiles for the whole test run.
func newRuntime(t testing.TB, cfg Config) *Runtime {
	t.Helper()
	if cfg.Cache == "" {
		cfg.Cache = cacheDir
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error("close the runtime:", err)
		}
	})
	return r
}

var cacheDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "wasm")
	if err != nil {
		panic(err)
	}
	cacheDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// load returns a function of the tests' reactor.
func load(t testing.TB, r *Runtime, entry string) *function {
	t.Helper()
	return loadProgram(t, r, runtime.Program{Function: "test", Path: "testdata/guest.wasm", Entry: entry})
}

func loadProgram(t testing.TB, r *Runtime, p runtime.Program) *function {
	t.Helper()
	f, err := r.Load(t.Context(), p)
	if err != nil {
		t.Fatalf("load %s: %v", p.Path, err)
	}
	return f.(*function)
}

func invoke(t testing.TB, f runtime.Function, args string) (wire.Value, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return f.Invoke(ctx, &runtime.Call{Run: "run-1", Function: "test", Attempt: 1, Args: wire.Value{Body: []byte(args)}})
}

func TestResult(t *testing.T) {
	r := newRuntime(t, Config{})
	echo := load(t, r, "")
	command := loadProgram(t, r, runtime.Program{Function: "shout", Path: "testdata/command.wasm"})
	for _, tt := range []struct {
		f                *function
		args, want, mime string
	}{
		{echo, `{"a": 1}`, `{"a": 1}`, ""},
		{echo, "", "", ""},
		{echo, "plain words", "plain words", "text/plain; charset=utf-8"},
		{echo, "\xff\x00", "\xff\x00", "application/octet-stream"},
		{echo, `"` + strings.Repeat("long ", 100_000) + `"`, `"` + strings.Repeat("long ", 100_000) + `"`, ""},
		{command, "[1,2]", "[1,2]", ""},
		{command, "", "shout", "text/plain; charset=utf-8"},
		{load(t, r, "leave_well"), "", "[1]", ""},
		{load(t, r, "by_return"), "", `"ok"`, ""},
	} {
		for range 3 {
			v, err := invoke(t, tt.f, tt.args)
			if err != nil || string(v.Body) != tt.want || v.Type != tt.mime {
				t.Errorf("%s(%.20q) = %.40q of type %q, %v; want %.40q of type %q", tt.f.entry, tt.args, v.Body, v.Type, err, tt.want, tt.mime)
			}
		}
	}
}

func TestFailure(t *testing.T) {
	r := newRuntime(t, Config{})
	command := loadProgram(t, r, runtime.Program{Function: "test", Path: "testdata/command.wasm"})
	for _, tt := range []struct {
		f          *function
		args       string
		kind       wire.Kind
		msg, stack string // parts of them
	}{
		{load(t, r, "fail"), "", wire.KindFunction, "the reason", "first line\nthe reason"},
		{load(t, r, "quiet"), "", wire.KindFunction, "quiet returned 7", ""},
		{load(t, r, "leave"), "", wire.KindFunction, "going", "going"},
		{command, "5", wire.KindFunction, "leaving", "leaving"},
		{load(t, r, "trap"), "", wire.KindPanic, "unreachable", "about to fail"},
		{load(t, r, "recurse"), "", wire.KindPanic, "stack overflow", ""},
		{load(t, r, "far_request"), "", wire.KindPanic, "request of 100 bytes at 4294967280", ""},
		{load(t, r, "huge_request"), "", wire.KindPanic, "request of 4294967295 bytes", ""},
		{load(t, r, "far_response"), "", wire.KindPanic, "out of bounds", ""},
		{load(t, r, "flood"), "", wire.KindTooLarge, "67108864 bytes of output", ""},
	} {
		for range 2 {
			v, err := invoke(t, tt.f, tt.args)
			e, ok := errors.AsType[*wire.Error](err)
			if !ok || e.Kind != tt.kind || !strings.Contains(e.Msg, tt.msg) || !strings.Contains(e.Stack, tt.stack) {
				t.Errorf("%s = %q, %v with the stack\n%s\nwant the kind %v, %q and the stack %q", tt.f.entry, v.Body, err, stackIn(e), tt.kind, tt.msg, tt.stack)
			}
		}
	}
}

// A guest whose memory is used up says so, whatever its runtime says, and isn't run again.
func TestOutOfMemory(t *testing.T) {
	f := loadProgram(t, newRuntime(t, Config{}), runtime.Program{Function: "test", Path: goGuest(t, "conformance"), Entry: "run_memory", Memory: 64 << 20})
	for range 2 {
		_, err := invoke(t, f, "true")
		if wire.KindOf(err) != wire.KindPermanent || !strings.Contains(err.Error(), "out of memory: it holds ") || !strings.Contains(err.Error(), "64 MiB is its limit; deploy it with more (--memory)") {
			t.Errorf("got %v", err)
		}
	}
}

// A module that is a command runs its main and nothing else.
func TestCommandsWithAnEntry(t *testing.T) {
	r, command := newRuntime(t, Config{}), goGuest(t, "gomixed")
	for entry, want := range map[string]string{
		"":        `it is a command, of which main runs and "handler" never: build a reactor (Go: -buildmode=c-shared)`,
		"handler": `it is a command in Go, of which "handler" can't be called`,
	} {
		_, err := r.Load(t.Context(), runtime.Program{Function: "test", Path: command, Entry: entry})
		if wire.KindOf(err) != wire.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("entry %q: got %v", entry, err)
		}
	}
	v, err := invoke(t, loadProgram(t, r, runtime.Program{Function: "test", Path: command, Entry: "_start"}), "[1]")
	if err != nil || string(v.Body) != "[1]" {
		t.Errorf("as a command: got %q %v", v.Body, err)
	}
}

func stackIn(e *wire.Error) string {
	if e == nil {
		return ""
	}
	return e.Stack
}

func TestRefused(t *testing.T) {
	r := newRuntime(t, Config{})
	guest, err := os.ReadFile("testdata/guest.wasm")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		code []byte
		p    runtime.Program
		want string
	}{
		"empty":     {nil, runtime.Program{}, "empty"},
		"text":      {[]byte("#!/bin/sh\nexit 0\n"), runtime.Program{}, "not a WebAssembly module"},
		"magic":     {[]byte("\x00asm"), runtime.Program{}, "cut short"},
		"truncated": {guest[:len(guest)-100], runtime.Program{}, "cut short"},
		"component": {[]byte("\x00asm\x0d\x00\x01\x00"), runtime.Program{}, "component"},
		"version":   {[]byte("\x00asm\x02\x00\x00\x00"), runtime.Program{}, "version 2"},
		"nothing":   {[]byte("\x00asm\x01\x00\x00\x00"), runtime.Program{}, `no function "handler"`},
		"entry":     {guest, runtime.Program{Entry: "missing"}, `no function "missing" to call (and no _start); it exports: _initialize, ask, by_return`},
		"signature": {guest, runtime.Program{Entry: "no_entry"}, `"no_entry" can't be called`},
		"memory":    {guest, runtime.Program{Memory: 65536}, "needs 128 KiB of memory to start with, and 64 KiB is its limit"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.p.Function, tt.p.Path = "test", filepath.Join(t.TempDir(), "image.wasm")
			if err := os.WriteFile(tt.p.Path, tt.code, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := r.Load(t.Context(), tt.p)
			if wire.KindOf(err) != wire.KindInvalid || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
	for path, want := range map[string]string{
		"testdata/foreign.wasm": `it imports "puts" of "env": wrong ABI`,
		"testdata/start.wasm":   "its start function takes longer than 1s",
	} {
		if _, err := r.Load(t.Context(), runtime.Program{Function: "test", Path: path}); wire.KindOf(err) != wire.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v; want %q", path, err, want)
		}
	}
	if _, err := r.Load(t.Context(), runtime.Program{Function: "test", Path: "testdata/missing.wasm"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
