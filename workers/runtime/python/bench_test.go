//go:build unix

package python_test

import (
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/python"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

// BenchmarkInvoke is a warm round trip through one instance.
func BenchmarkInvoke(b *testing.B) {
	rt := python.New(python.Config{Scratch: b.TempDir()})
	large := make([]byte, 8<<20)
	large[0] = 0xff
	for _, bm := range []struct {
		name, entry string
		args        wire.Value
	}{
		{"add", "add", wire.Value{Body: []byte(`[1,2]`)}},
		{"counter", "counter", wire.Value{Body: []byte(`["c",2]`)}},
		{"8MiB", "echo", wire.Value{Body: large, Type: "application/octet-stream"}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			f, err := rt.Load(b.Context(), runtime.Program{Function: bm.entry, Path: "testdata/suite", Entry: bm.entry})
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			call := runtimetest.NewCall(bm.entry, "")
			call.Args = bm.args
			b.SetBytes(int64(2 * len(bm.args.Body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Invoke(b.Context(), call); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad is a cold start: the copy of a program, and a process that imports it.
func BenchmarkLoad(b *testing.B) {
	rt := python.New(python.Config{Scratch: b.TempDir()})
	for b.Loop() {
		f, err := rt.Load(b.Context(), runtime.Program{Function: "add", Path: "testdata/suite", Entry: "add"})
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
