//go:build unix

package deployments

import "syscall"

// apart keeps a worker out of our process group: Ctrl-C is for us, and we tell the
// workers in turn. A worker that heard it twice would end without draining.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
