package cloudburst

import (
	"runtime"
	"unsafe"
)

//go:wasmimport cloudburst request
func hostRequest(request unsafe.Pointer, length uint32) uint32

//go:wasmimport cloudburst response
func hostResponse(response unsafe.Pointer)

// exchange makes a request of the host and returns its response.
func exchange(request []byte) []byte {
	n := hostRequest(unsafe.Pointer(unsafe.SliceData(request)), uint32(len(request)))
	runtime.KeepAlive(request)
	response := make([]byte, n)
	hostResponse(unsafe.Pointer(unsafe.SliceData(response)))
	return response
}
