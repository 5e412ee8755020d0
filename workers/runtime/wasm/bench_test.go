package wasm

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

var goGuests sync.Map

// goGuest builds a guest that is in Go, once for the test run.
func goGuest(t testing.TB, name string) string {
	t.Helper()
	build, _ := goGuests.LoadOrStore(name, sync.OnceValues(func() (string, error) {
		out := filepath.Join(cacheDir, name+".wasm")
		args := []string{"build", "-trimpath", "-o", out}
		if name != "gocommand" && name != "gomixed" {
			args = append(args, "-buildmode=c-shared")
		}
		cmd := exec.Command("go", append(args, "./testdata/"+name)...)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		text, err := cmd.CombinedOutput()
		return out + string(text), err
	}))
	path, err := build.(func() (string, error))()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, path)
	}
	return path
}

func benchmarkCall(b *testing.B, f *function, args string) {
	b.Helper()
	call := &runtime.Call{Run: "run-1", Function: "test", Attempt: 1, Args: wire.Value{Body: []byte(args)}}
	for range 3 {
		if _, err := f.Invoke(b.Context(), call); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Invoke(b.Context(), call); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWarm(b *testing.B) {
	r := newRuntime(b, Config{})
	for _, bb := range []struct{ name, path, entry, args string }{
		{"CCommand", "testdata/command.wasm", "", `"hello"`},
		{"CReactor", "testdata/guest.wasm", "", `"hello"`},
		{"GoCommand", goGuest(b, "gocommand"), "", `"hello"`},
		{"GoReactor", goGuest(b, "goreactor"), "", `"hello"`},
		{"GoPrepared", goGuest(b, "goprepared"), "", `8`},
	} {
		f := loadProgram(b, r, runtime.Program{Function: "test", Path: bb.path, Entry: bb.entry})
		b.Run(bb.name, func(b *testing.B) { benchmarkCall(b, f, bb.args) })
	}
}

func BenchmarkCold(b *testing.B) {
	r := newRuntime(b, Config{})
	for _, bb := range []struct{ name, path string }{
		{"CCommand", "testdata/command.wasm"},
		{"CReactor", "testdata/guest.wasm"},
		{"GoCommand", goGuest(b, "gocommand")},
		{"GoReactor", goGuest(b, "goreactor")},
		{"GoPrepared", goGuest(b, "goprepared")},
	} {
		f := loadProgram(b, r, runtime.Program{Function: "test", Path: bb.path})
		if _, err := invoke(b, f, "11"); err != nil {
			b.Fatal(err)
		}
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			x := f.execute(b.Context(), nil)
			for b.Loop() {
				inst, err := f.another(x, f.image)
				if err != nil {
					b.Fatal(err)
				}
				if err := inst.close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, bb := range []struct{ name, path string }{
		{"C", "testdata/guest.wasm"},
		{"Go", goGuest(b, "goreactor")},
	} {
		p := runtime.Program{Function: "test", Path: bb.path}
		loadOnce := func(b *testing.B, dir string) {
			b.Helper()
			r, err := New(Config{Cache: dir})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := r.Load(b.Context(), p); err != nil {
				b.Fatal(err)
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(bb.name+"/compiling", func(b *testing.B) {
			for b.Loop() {
				loadOnce(b, "")
			}
		})
		b.Run(bb.name+"/cached", func(b *testing.B) {
			dir := b.TempDir()
			loadOnce(b, dir)
			for b.Loop() {
				loadOnce(b, dir)
			}
		})
	}
}
