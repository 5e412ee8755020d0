package deployments

import "syscall"

// apart keeps Ctrl-C from the worker: it is for us, and we tell the workers in turn.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
