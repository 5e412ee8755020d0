package broker

import (
	"errors"
	"io/fs"
	"os"
)

// lockFile returns the file, which nobody else can lock until it is closed:
// Windows doesn't remove a file that is open.
func lockFile(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(errLocked, err)
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}
