package soak

import (
	"math"
	"runtime"
	"strings"
)

// Heap is what a process holds in memory after a collection, in MiB.
type heap struct {
	own float64 // all but the buffers
	// buffers are those of the embedded server: 4 or 8 MiB for each file block that was read
	// or written within the last 10 s. They come and go by chance, and hide all else.
	buffers float64
}

// measureHeap collects garbage and measures what is left.
func measureHeap() heap {
	runtime.GC()
	runtime.GC() // what the first one finalized, and what pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	buffers := allocatedIn(".getMsgBlockBuf")
	return heap{own: float64(m.HeapAlloc)/(1<<20) - buffers, buffers: buffers}
}

// allocatedIn returns how many MiB are alive that a function, or what it calls, allocated.
// The runtime notes samples: of each size so many that the sum is right on average, and all
// that is as large as a block.
func allocatedIn(function string) float64 {
	var records []runtime.MemProfileRecord
	n, ok := runtime.MemProfile(nil, false)
	for !ok {
		records = make([]runtime.MemProfileRecord, n+n/8+64)
		n, ok = runtime.MemProfile(records, false)
	}
	sum := 0.0
	for _, r := range records[:n] {
		if through(r.Stack(), function) {
			each := float64(r.InUseBytes()) / float64(r.InUseObjects())
			sum += float64(r.InUseBytes()) / (1 - math.Exp(-each/float64(runtime.MemProfileRate)))
		}
	}
	return sum / (1 << 20)
}

func through(stack []uintptr, function string) bool {
	frames := runtime.CallersFrames(stack)
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, function) {
			return true
		}
		if !more {
			return false
		}
	}
}
