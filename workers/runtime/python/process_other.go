//go:build !unix

package python

import (
	"errors"
	"io"
	"os"
)

var errSystem = errors.New("Python functions need a worker on Linux or another Unix: there, processes can be bounded and ended") //nolint:revive,staticcheck // a name

func startProcess([]string, string, []string, []*os.File, identity, identity) (*os.Process, error) {
	return nil, errSystem
}

func killGroup(int) {}

func socketPair() (ours, theirs *os.File, err error) { return nil, nil, errSystem }

func newEager(*os.File) (io.ReadWriter, error) { return nil, errSystem }

func lockFile(string) (*os.File, error) { return nil, errSystem }

func hangUp(*os.File) {}

func readNow(uintptr, []byte) (n int, ended bool) { return 0, true }

func exitOf(*os.ProcessState) string { return "ended" }
