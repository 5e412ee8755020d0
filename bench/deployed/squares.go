package deployed

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cloudburst-nats/cloudburst/examples/guests"
)

const squareSource = "def handler(cloudburst, x):\n    return x * x\n"

// A square is the function as an image.
type square struct {
	name  string
	image []byte
}

func squares() []square {
	return []square{
		{"wasm-c", guests.SquareC},
		{"wasm-as", guests.SquareAssemblyScript},
		{"python", []byte(squareSource)},
	}
}

// differently returns the image with other bytes that change nothing, so that it
// has another digest.
func differently(image []byte, i int) []byte {
	note := fmt.Sprint("copy ", i)
	if !bytes.HasPrefix(image, []byte("\x00asm")) {
		return append(bytes.Clone(image), "\n# "+note+"\n"...)
	}
	return section(bytes.Clone(image), 0, concat(name("copy"), binary.AppendUvarint(nil, uint64(i)))) //nolint:gosec // a small index
}

// executed returns the contenders that execute a program for each call: Python,
// and C where there is a compiler.
func executed(dir string) ([]*contender, error) {
	script := filepath.Join(dir, "square.py")
	if err := os.WriteFile(script, []byte("import sys\nx = int(sys.stdin.read())\nprint(x * x)\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write program: %w", err)
	}
	python, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output() //nolint:noctx // it takes a moment
	if err != nil {                                                                            // what is on the PATH may be a script that looks for it
		return nil, fmt.Errorf("find python3: %w", err)
	}
	all := []*contender{{name: "exec python3", alone: true, call: execute(strings.TrimSpace(string(python)), "-I", script)}}
	compiler, err := exec.LookPath("cc")
	if err != nil {
		return all, nil //nolint:nilerr // then there is no such contender
	}
	source, program := filepath.Join(dir, "square.c"), filepath.Join(dir, "square")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void){long x; if (scanf(\"%ld\", &x) != 1) return 1; printf(\"%ld\\n\", x * x); return 0;}\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write program: %w", err)
	}
	if out, err := exec.Command(compiler, "-O2", "-o", program, source).CombinedOutput(); err != nil { //nolint:gosec,noctx // our own source; it takes a moment
		return nil, fmt.Errorf("compile: %w: %s", err, out)
	}
	return append(all, &contender{name: "exec C", alone: true, call: execute(program)}), nil
}

func execute(program string, args ...string) func(context.Context, int) (int, error) {
	return func(ctx context.Context, x int) (int, error) {
		cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // one of the two above
		cmd.Stdin = strings.NewReader(strconv.Itoa(x))
		out, err := cmd.Output()
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(string(out)))
	}
}

// taken is the memory of this process and its children, in bytes, as far as the
// system tells: 0 where it doesn't.
func taken() int64 {
	total := resident("self")
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return total
	}
	for _, path := range all {
		stat, err := os.ReadFile(path) //nolint:gosec // of the process file system
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			total += resident(filepath.Base(filepath.Dir(path)))
		}
	}
	return total
}

// resident is the proportional set size of a process: what it shares counts in part.
func resident(pid string) int64 {
	rollup, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(rollup)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
