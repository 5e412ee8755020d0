package deployed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst/bench/programs"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm"
)

// ProgramsConfig describes a comparison of programs. The zero value works.
type ProgramsConfig struct {
	Rounds int  // how often they take turns. Default 5
	Scale  int  // divides how much each has to do, for a look. Default 1
	JSON   bool // an object a row, instead of a table
}

// A Program is what came of one. Times are medians, in seconds.
type Program struct {
	Name   string  `json:"name"`
	N      int     `json:"n"`
	Native float64 `json:"native_s"` // the C compiler's -O2
	Wasm   float64 `json:"wasm_s"`   // in the runtime of deployed functions, metered
	Ratio  float64 `json:"ratio"`
}

// Programs measures the four programs of the benchmarks game that papers on
// functions in WebAssembly use, compiled by this machine's C compiler and as
// modules, turn and turn about. They must print the same.
func Programs(ctx context.Context, cfg ProgramsConfig, out io.Writer) (err error) {
	if cfg.Rounds <= 0 {
		cfg.Rounds = 5
	}
	if cfg.Scale <= 0 {
		cfg.Scale = 1
	}
	dir, err := os.MkdirTemp("", "cloudburst-bench-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	modules, err := wasm.New(wasm.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, modules.Close()) }()
	var rows []Program
	product := 1.0
	for _, p := range programs.All() {
		row, err := compare(ctx, modules, dir, p, max(p.N/cfg.Scale, 1), cfg.Rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		rows = append(rows, row)
		product *= row.Ratio
	}
	rows = append(rows, Program{Name: "geometric mean", Ratio: math.Pow(product, 1/float64(len(rows)))})
	return write(out, rows, cfg.JSON, table.Row{"program", "n", "native s", "wasm s", "ratio"}, func(r Program) table.Row {
		if r.N == 0 {
			return table.Row{r.Name, "", "", "", digits(r.Ratio)}
		}
		return table.Row{r.Name, r.N, fmt.Sprintf("%.3f", r.Native), fmt.Sprintf("%.3f", r.Wasm), digits(r.Ratio)}
	})
}

func compare(ctx context.Context, modules *wasm.Runtime, dir string, p programs.Program, n, rounds int) (row Program, err error) {
	native, err := compiled(ctx, dir, p)
	if err != nil {
		return row, err
	}
	path := filepath.Join(dir, p.Name+".wasm")
	if err := os.WriteFile(path, p.Wasm, 0o600); err != nil {
		return row, err
	}
	module, err := modules.Load(ctx, runtime.Program{Function: p.Name, Path: path})
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, module.Close()) }()
	var natives, wasms []time.Duration
	for range rounds {
		began := time.Now()
		want, err := native(n)
		natives = append(natives, time.Since(began))
		if err != nil {
			return row, err
		}
		began = time.Now()
		got, err := module.Invoke(ctx, &runtime.Call{Function: p.Name, Attempt: 1, Args: wire.Value{Body: []byte(strconv.Itoa(n))}})
		wasms = append(wasms, time.Since(began))
		if err != nil {
			return row, err
		}
		if !bytes.Equal(got.Body, want) {
			return row, fmt.Errorf("the module prints %s, and the program %s", got.Body, want)
		}
	}
	slices.Sort(natives)
	slices.Sort(wasms)
	row = Program{Name: p.Name, N: n, Native: at(natives, 50) / 1000, Wasm: at(wasms, 50) / 1000}
	row.Ratio = row.Wasm / row.Native
	return row, nil
}

// compiled returns the program as this machine's C compiler makes it.
func compiled(ctx context.Context, dir string, p programs.Program) (run func(n int) ([]byte, error), err error) {
	path := filepath.Join(dir, p.Name)
	cc := exec.CommandContext(ctx, "cc", "-std=c11", "-O2", "-ffp-contract=off", "-x", "c", "-o", path, "-", "-lm")
	cc.Stdin = strings.NewReader(p.Source)
	if out, err := cc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("this needs a C compiler: %w: %s", err, out)
	}
	return func(n int) ([]byte, error) {
		cmd := exec.CommandContext(ctx, path)
		cmd.Stdin = strings.NewReader(strconv.Itoa(n))
		out, err := cmd.Output()
		return bytes.TrimSpace(out), err
	}, nil
}
