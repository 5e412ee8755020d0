package python

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

// makeHome makes a directory that the group can read. The group of an
// identity that is none is the worker's own.
func makeHome(scratch string, group identity) (string, error) {
	if err := os.MkdirAll(scratch, 0o755); err != nil { //nolint:gosec // code runs as another user, who passes through
		return "", fmt.Errorf("make scratch directory: %w", err)
	}
	home, err := os.MkdirTemp(scratch, "cloudburst-python-")
	if err != nil {
		return "", fmt.Errorf("make scratch directory: %w", err)
	}
	if home, err = filepath.Abs(home); err == nil && group.switched {
		err = errors.Join(os.Chown(home, -1, int(group.id)), os.Chmod(home, 0o750))
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("make scratch directory: %w", err), os.RemoveAll(home))
	}
	return home, nil
}

// copyTree copies files to where instances can read them: a copy is readable however
// the original's directories are, and stays as it was when the program was loaded.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case d.IsDir() && d.Name() == "__pycache__":
			return filepath.SkipDir
		case d.IsDir():
			return makeDir(target)
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			if name == "." {
				name = from
			}
			return &wire.Error{Op: "load", Name: name, Kind: wire.KindInvalid, Msg: "neither a file nor a directory"}
		}
		if name == "." {
			return &wire.Error{Op: "load", Name: from, Kind: wire.KindInvalid, Msg: "a file: a Python program is a directory of files"}
		}
		return copyFile(target, path, info.Mode())
	})
}

func makeDir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil { //nolint:gosec // instances run as another user
		return err
	}
	return os.Chmod(path, 0o755) //nolint:gosec // whatever the umask
}

func copyFile(to, from string, mode fs.FileMode) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close(), os.Chmod(to, 0o644|mode&0o111)) }()
	_, err = io.Copy(out, in)
	return err
}

func writeFile(path string, text []byte, mode fs.FileMode) error {
	return errors.Join(os.WriteFile(path, text, mode), os.Chmod(path, mode))
}

// remove removes a directory, also what code has made unreadable in it. What can't
// be removed stays: the system clears its temporary directory.
func remove(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { //nolint:errcheck // said above
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:errcheck,gosec // said above
		}
		return nil //nolint:nilerr // said above
	})
	_ = os.RemoveAll(dir) //nolint:errcheck // said above
}
