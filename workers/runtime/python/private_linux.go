package python

import (
	"fmt"
	"os"
	"path/filepath"
	stdruntime "runtime"
	"slices"
	"strings"
	"syscall"
)

// temporary are the directories that everybody shares, and that an instance has for itself.
var temporary = []string{"/tmp", "/var/tmp"}

// privately calls start so that the process which that starts sees dir as each of the
// temporary directories. What it has to see there nevertheless, such as its program, is in
// keep. Only root can do that; everything mounted is gone with the process, and what it has
// written is in dir.
//
// A mount namespace belongs to a thread: this one is made for it, and ends with it.
func privately(dir string, keep []string, start func() (*os.Process, error)) (process *os.Process, mounted error, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		onOwnThread(func() {
			if mounted = mountTemporary(dir, keep); mounted == nil {
				process, err = start()
			}
		})
	}()
	<-done
	return process, mounted, err
}

// onOwnThread calls do on a thread that nothing else runs on, and that ends afterwards. The
// process's first thread isn't one: it can't end.
func onOwnThread(do func()) {
	stdruntime.LockOSThread() // until the goroutine ends, and with it the thread
	if syscall.Gettid() != os.Getpid() {
		do()
		return
	}
	done := make(chan struct{})
	go func() { // on another one, as this one is taken
		defer close(done)
		onOwnThread(do)
	}()
	<-done
	stdruntime.UnlockOSThread()
}

// mountTemporary has this thread, and what it starts, see dir in place of the temporary
// directories.
func mountTemporary(dir string, keep []string) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// What is mounted here must not be seen elsewhere.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("part from others' mounts: %w", err)
	}
	for _, tmp := range temporary {
		if _, err := os.Stat(tmp); err != nil {
			continue // there is none to share
		}
		for _, path := range outermost(tmp, keep) {
			if err := mountBelow(filepath.Join(dir, strings.TrimPrefix(path, tmp)), path); err != nil {
				return err
			}
		}
	}
	for _, tmp := range temporary {
		if where, err := filepath.EvalSymlinks(tmp); err != nil || where != tmp {
			continue // it is another name of one of them, or isn't there
		}
		if err := syscall.Mount(dir, tmp, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", tmp, err)
		}
	}
	return nil
}

// outermost returns those paths that are below a directory, and not below each other.
func outermost(dir string, paths []string) (found []string) {
	paths = slices.Clone(paths)
	slices.Sort(paths)
	for _, path := range paths {
		last := len(found) - 1
		if !strings.HasPrefix(path, dir+"/") || last >= 0 && (path == found[last] || strings.HasPrefix(path, found[last]+"/")) {
			continue
		}
		found = append(found, path)
	}
	return found
}

// mountBelow mounts a file or directory at a place that isn't there yet.
func mountBelow(at, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil //nolint:nilerr // what isn't there isn't missed
	}
	if info.IsDir() {
		err = os.MkdirAll(at, 0o755) //nolint:gosec // instances run as another user
	} else if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil { //nolint:gosec // likewise
		err = os.WriteFile(at, nil, 0o644) //nolint:gosec // likewise
	}
	if err == nil {
		err = syscall.Mount(path, at, "", syscall.MS_BIND|syscall.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", path, err)
	}
	return nil
}
