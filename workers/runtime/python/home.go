package python

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A home is a directory for as long as this process uses it.
type home struct {
	dir  string
	lock *os.File // tells other workers that it is in use
}

const homePrefix = "cloudburst-python-"

// makeHome makes a directory that the group can read. The group of an identity that
// is none is the worker's own.
func makeHome(scratch string, group identity) (*home, error) {
	if err := os.MkdirAll(scratch, 0o755); err != nil { //nolint:gosec // code runs as another user, who passes through
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	dir, err := os.MkdirTemp(scratch, homePrefix)
	if err != nil {
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	h := &home{dir: dir}
	if h.dir, err = filepath.Abs(dir); err == nil && group.switched {
		err = errors.Join(os.Chown(dir, -1, int(group.id)), os.Chmod(dir, 0o750)) //nolint:gosec // the group's only member is this code
	}
	if err != nil {
		h.leave()
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	// A file system without locks leaves what a killed worker leaves, that is all.
	h.lock, _ = lockFile(filepath.Join(dir, lockName))
	return h, nil
}

// leave removes the directory.
func (h *home) leave() {
	if h == nil {
		return
	}
	remove(h.dir)
	if h.lock != nil {
		_ = h.lock.Close() // never written to
	}
}

const (
	lockName = "lock"
	// lockedWithin is longer than it takes to lock a directory that was just made.
	lockedWithin = time.Minute
)

// clearScratch removes the directories of workers that were killed.
func clearScratch(scratch string, now time.Time) {
	dirs, err := filepath.Glob(filepath.Join(scratch, homePrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || now.Sub(info.ModTime()) < lockedWithin {
			continue
		}
		if lock, err := lockFile(filepath.Join(dir, lockName)); err == nil {
			(&home{dir, lock}).leave()
		}
	}
}

// filesOf returns the files of a program.
func filesOf(p runtime.Program) (fs.FS, error) {
	if p.Files != nil {
		return p.Files, nil
	}
	switch info, err := os.Stat(p.Path); {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, invalid(p.Path, "no directory: a Python program is a directory of files")
	}
	return os.DirFS(p.Path), nil
}

// copyFiles copies files to where instances can read them: a copy is readable however
// the original's directories are, and stays as it was when the program was loaded.
func copyFiles(to string, files fs.FS) error {
	return fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, filepath.FromSlash(name))
		switch {
		case d.IsDir() && d.Name() == "__pycache__":
			return fs.SkipDir
		case d.IsDir():
			return makeDir(target)
		}
		info, err := fs.Stat(files, name)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return invalid(name, "neither a file nor a directory")
		}
		return copyFile(target, files, name, info.Mode())
	})
}

func invalid(name, msg string) error {
	return &wire.Error{Op: "load", Name: name, Kind: wire.KindInvalid, Msg: msg}
}

func makeDir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil { //nolint:gosec // instances run as another user
		return err
	}
	return os.Chmod(path, 0o755) //nolint:gosec // whatever the umask
}

func copyFile(to string, files fs.FS, name string, mode fs.FileMode) (err error) {
	in, err := files.Open(name)
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
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}
