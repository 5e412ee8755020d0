//go:build !linux

package python

import (
	"errors"
	"os"
)

var errShared = errors.New("the system has no mount namespaces")

// privately starts nothing: temporary directories are everybody's.
func privately(string, []string, func() (*os.Process, error)) (process *os.Process, mounted error, err error) {
	return nil, errShared, nil
}
