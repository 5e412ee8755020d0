package anomalies

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cloudburst-nats/cloudburst/consistency/history"
)

// histories gathers what the workers recorded and the clients saw, by level, with
// an audit, and leaves each level's in a file of its own.
func (x *experiment) histories(ctx context.Context) (map[string]*history.History, error) {
	all := make(map[string]*history.History, len(x.cfg.Levels))
	for _, level := range x.cfg.Levels {
		all[level] = new(history.History)
		for _, run := range x.runs[level] {
			if !run.failed {
				all[level].Outcomes = append(all[level].Outcomes, run.outcome)
			}
		}
	}
	for i := range x.cfg.Workers {
		recorded, err := readHistory(x.fleet.file(i))
		if err != nil {
			return nil, err
		}
		for _, e := range recorded.Executions {
			all[e.Level].Executions = append(all[e.Level].Executions, e)
		}
	}
	for level, h := range all {
		if causal(level) {
			if err := x.audit(ctx, level, h); err != nil {
				return nil, err
			}
		}
		if err := writeHistory(filepath.Join(x.dir, level+".jsonl"), h); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func readHistory(path string) (*history.History, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	h, err := history.Read(file)
	if err != nil {
		return nil, fmt.Errorf("read history %s: %w", path, err)
	}
	return h, nil
}

func writeHistory(path string, h *history.History) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	if err := errors.Join(h.Write(file), file.Close()); err != nil {
		return fmt.Errorf("keep history %s: %w", path, err)
	}
	return nil
}
