package wasm

import (
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A memory is the linear memory of one instance: address space for as much as it
// may ever have, of which only what the guest touches is real. It is no part of
// Go's heap, and the garbage collector knows nothing of it.
type memory struct {
	all   []byte
	image *image // that it was put back to last, if it is large
	flags []byte // of pages: scratch
}

// newMemory reserves most bytes. It returns a memory that can't hold anything if
// there is no address space left.
func newMemory(most uint64) *memory {
	all, err := unix.Mmap(-1, 0, int(max(most, 1)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE) //nolint:gosec // 4 GiB at most
	if err != nil {
		return &memory{}
	}
	// A huge page would be cleared whole for a guest that touches a byte of it.
	_ = unix.Madvise(all, unix.MADV_NOHUGEPAGE) // then it is slower
	return &memory{all: all}
}

// Reallocate returns the first size bytes. New ones are zero.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	return m.all[:size:size]
}

// Free returns the memory to the system.
func (m *memory) Free() {
	if m.all != nil {
		_ = unix.Munmap(m.all) // it can't fail for what Mmap returned
		m.all = nil
	}
}

const (
	// small is how large a memory can be for it to be quickest to write all of it.
	small = 256 << 10
	// maxDirty is how much of a larger one is written. That keeps what was written
	// once, which saves the next call some microseconds for each page; a memory of
	// which more was written gives everything back to the system.
	maxDirty = 4 << 20
)

var errReset = errors.New("it can't be put back")

// reset makes the first used bytes, beyond which there are only zeros, what the
// image says. A memory shares the pages of a large image until it writes to them.
func (m *memory) reset(img *image, used int) error {
	switch {
	case m.image != nil && m.image != img:
		return errReset // that is too rare to be worth its code
	case m.image == nil && img.file != nil:
		return m.adopt(img, used)
	case m.image == nil && used <= small:
		clear(m.all[copy(m.all, img.data):max(len(img.data), used)])
		return nil
	case m.resetPages(img, used):
		return nil
	}
	if err := unix.Madvise(m.all[:pageUp(max(used, len(img.data)))], unix.MADV_DONTNEED); err != nil {
		return err
	}
	if img.file == nil {
		copy(m.all, img.data)
	}
	return nil
}

// adopt puts the memory back to a large image for the first time.
func (m *memory) adopt(img *image, used int) error {
	if err := unix.Madvise(m.all[:pageUp(used)], unix.MADV_DONTNEED); err != nil {
		return err
	}
	at, n := unsafe.Pointer(unsafe.SliceData(m.all)), uintptr(pageUp(len(img.data)))                                                         //nolint:gosec // a length
	_, err := unix.MmapPtr(int(img.file.Fd()), 0, at, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE) //nolint:gosec // a descriptor
	m.image = img
	return err
}

// What the system says of a page.
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageShared  = 1 << 61 // is the file's still
)

// resetPages writes to the pages that aren't the image's any more. It says whether
// that is all of it; else there are too many, or the system doesn't say which.
func (m *memory) resetPages(img *image, used int) bool {
	page := os.Getpagesize()
	n := pageUp(used) / page
	if img.pagemap == nil || n == 0 {
		return false
	}
	if cap(m.flags) < n*8 {
		m.flags = make([]byte, n*8)
	}
	flags := m.flags[:n*8]
	first := uintptr(unsafe.Pointer(unsafe.SliceData(m.all))) / uintptr(page) //nolint:gosec // a size
	if got, err := img.pagemap.ReadAt(flags, int64(first*8)); err != nil || got != len(flags) {
		return false
	}
	dirty := 0
	for i := range n {
		f := binary.NativeEndian.Uint64(flags[i*8:])
		if f&(pagePresent|pageSwapped) == 0 || f&pageShared != 0 {
			continue
		}
		if dirty += page; dirty > maxDirty {
			return false
		}
		at := i * page
		from := min(at, len(img.data))
		to := m.all[at : at+page]
		clear(to[copy(to, img.data[from:]):])
	}
	return true
}

func pageUp(n int) int {
	page := os.Getpagesize()
	return (n + page - 1) &^ (page - 1)
}

// openPagemap opens what tells which pages were written to. Without it, all are
// dropped and faulted in again.
func openPagemap() *os.File {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil
	}
	return f
}

// share puts a large image where instances can map it, and out of Go's heap. It says
// whether it has: else each instance has a copy. Writing a file takes half as long as
// touching as many new pages of a mapping.
func (img *image) share(data []byte) bool {
	if img.pages*pageSize <= small || len(data) == 0 {
		return false
	}
	fd, err := unix.MemfdCreate("cloudburst", unix.MFD_CLOEXEC)
	if err != nil {
		return false
	}
	file := os.NewFile(uintptr(fd), "image") //nolint:gosec // a descriptor
	n := pageUp(len(data))
	var mapped []byte
	if _, err = file.Write(data); err == nil {
		err = file.Truncate(int64(n))
	}
	if err == nil {
		mapped, err = unix.Mmap(fd, 0, n, unix.PROT_READ, unix.MAP_SHARED)
	}
	if err != nil {
		_ = file.Close() // nothing is lost
		return false
	}
	img.file, img.data = file, mapped
	return true
}

func (img *image) close() {
	if img.file != nil {
		_ = img.file.Close()      // it is only read
		_ = unix.Munmap(img.data) // it can't fail for what Mmap returned
		img.data = nil
	}
}
