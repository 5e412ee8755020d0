//go:build unix

package python

import (
	"errors"
	"io"
	"os"
	stdruntime "runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// startProcess starts a program in a process group of its own.
func startProcess(args []string, dir string, env []string, files []*os.File, user, group identity) (*os.Process, error) {
	sys := &syscall.SysProcAttr{Setpgid: true}
	if user.switched {
		sys.Credential = &syscall.Credential{Uid: user.id, Gid: group.id} // and no other groups
	}
	return os.StartProcess(args[0], args, &os.ProcAttr{Dir: dir, Env: env, Files: files, Sys: sys})
}

// killGroup kills a process and all of its process group.
func killGroup(pid int) {
	_ = syscall.Kill(-pid, syscall.SIGKILL) // they have ended
}

// socketPair returns the two ends of a connection. Ours blocks in the kernel: to wait
// for an answer there takes two thirds of the time that it takes by way of Go's poller.
func socketPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		const room = 1 << 20                                                       // large values need fewer turns
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, room) // a wish
	}
	return os.NewFile(uintptr(fds[0]), "instance"), os.NewFile(uintptr(fds[1]), "worker"), nil
}

// An eager connection looks for an answer again and again for a while before it sleeps,
// if it didn't wait for longer the last time: what has to wake up for an answer, and all
// that happens on other processors in the meantime, takes longer than a short call.
type eager struct {
	*os.File
	raw    syscall.RawConn
	waited time.Duration // by the last Read
}

func newEager(conn *os.File) (io.ReadWriter, error) {
	raw, err := conn.SyscallConn()
	return &eager{File: conn, raw: raw}, err
}

// looking is whether a connection does. One at a time takes one processor at most.
var looking atomic.Bool

func (c *eager) Read(p []byte) (n int, err error) {
	began := time.Now()
	defer func() { c.waited = time.Since(began) }()
	if c.waited < eagerFor && stdruntime.GOMAXPROCS(0) > 1 && looking.CompareAndSwap(false, true) {
		err = c.raw.Control(func(fd uintptr) {
			for n <= 0 && time.Since(began) < eagerFor {
				n, _, _ = syscall.Recvfrom(int(fd), p, syscall.MSG_DONTWAIT) // what is wrong is seen below
			}
		})
		looking.Store(false)
		if n > 0 {
			return n, err
		}
	}
	return c.File.Read(p)
}

// lockFile returns the file, which nobody else can lock until it is closed: by its
// process's end at the latest.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a file descriptor
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// hangUp has all reads and writes of a connection return.
func hangUp(conn *os.File) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // it is closed
		_ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) // the other end has hung up
	})
}

// readNow reads what there is. It returns 0 if there is nothing now, and ended if
// there will never be.
func readNow(fd uintptr, into []byte) (n int, ended bool) {
	for {
		n, err := syscall.Read(int(fd), into)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, false
		default:
			return max(n, 0), err != nil || n == 0
		}
	}
}

// exitOf says how a process has ended.
func exitOf(state *os.ProcessState) string {
	if state == nil {
		return "ended"
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled() && status.Signal() == syscall.SIGKILL:
		return errKilled.Error()
	case ok && status.Signaled():
		return "was ended by the signal " + status.Signal().String()
	default:
		return "ended with " + state.String()
	}
}
