package deployments

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A shelf keeps images on this machine's disk, as they were deployed:
//
//	<dir>/<digest>/image
//
// It is a cache: what was pulled is run from memory, and is on the disk some time
// later. A digest's directory appears whole or not at all, and its image is compared
// with its name when it is first used: what a crash or somebody's hand has
// damaged is pulled again. Several workers may share one directory.
type shelf struct {
	b       *broker.Broker
	dir     string
	keeping sync.WaitGroup // what is being written

	mu      sync.Mutex // guards checked
	checked map[string]bool
}

func newShelf(b *broker.Broker, dir string) *shelf {
	return &shelf{b: b, dir: dir, checked: make(map[string]bool)}
}

// take gives p its code, for as long as done isn't called. It pulls what isn't here.
func (s *shelf) take(ctx context.Context, f *wire.Function, p *runtime.Program) (done func(), err error) {
	path := filepath.Join(s.dir, f.Image, "image")
	if !s.good(f.Image, path) {
		return s.pull(ctx, f, p)
	}
	if f.Runtime != wire.RuntimePython {
		p.Path = path
		return func() {}, nil
	}
	file, err := os.Open(path) //nolint:gosec // named by its digest
	if err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	info, err := file.Stat()
	if err == nil {
		p.Files, err = filesOf(file, info.Size())
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil // only read
}

// good says whether the disk has the image, and whole.
func (s *shelf) good(digest, path string) bool {
	s.mu.Lock()
	checked := s.checked[digest]
	s.mu.Unlock()
	file, err := os.Open(path) //nolint:gosec // named by its digest
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // only read
	if checked {
		return true
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil || hex.EncodeToString(sum.Sum(nil)) != digest {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked[digest] = true
	return true
}

// pull brings an image from the object store: Python's when its files are asked for,
// so that an interpreter can start meanwhile. It is written to the disk once p is
// loaded: until then that would only take the processor's and the memory's time.
func (s *shelf) pull(ctx context.Context, f *wire.Function, p *runtime.Program) (done func(), err error) {
	// A directory that can't be written is told of now.
	if err := os.MkdirAll(s.dir, 0o755); err != nil { //nolint:gosec // nothing in it is secret
		return nil, fmt.Errorf("make the directory of images: %w", err)
	}
	temp, err := os.MkdirTemp(s.dir, "pull-")
	if err != nil {
		return nil, fmt.Errorf("pull image: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	var image []byte
	if f.Runtime == wire.RuntimePython {
		p.Files = later(sync.OnceValues(func() (fs.FS, error) {
			var err error
			if image, err = s.read(ctx, f); err != nil {
				return nil, err
			}
			return filesOf(bytes.NewReader(image), int64(len(image)))
		}))
	} else {
		if image, err = s.read(ctx, f); err != nil {
			return nil, err
		}
		p.Code = image
	}
	return func() {
		s.keeping.Go(func() {
			if image != nil {
				_ = s.keep(f.Image, image, temp) // else the next load pulls it again
			}
			_ = os.RemoveAll(temp)
		})
	}, nil
}

// read reads an image from the object store.
func (s *shelf) read(ctx context.Context, f *wire.Function) ([]byte, error) {
	image := bytes.NewBuffer(make([]byte, 0, min(f.Size, broker.MaxImage)))
	if err := s.b.Image(ctx, f.Image, image); err != nil {
		return nil, err
	}
	return image.Bytes(), nil
}

// keep writes an image to temp, and makes that its directory.
func (s *shelf) keep(digest string, image []byte, temp string) error {
	// Workers that share the directory may be different users.
	if err := os.Chmod(temp, 0o755); err != nil { //nolint:gosec // nothing in it is secret
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, "image"), image, 0o644); err != nil { //nolint:gosec // likewise
		return err
	}
	home := filepath.Join(s.dir, digest)
	err := os.Rename(temp, home)
	if errors.Is(err, fs.ErrExist) { // damaged, or another worker was as fast
		if err = os.RemoveAll(home); err == nil {
			err = os.Rename(temp, home)
		}
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked[digest] = true
	return nil
}

// close waits for what is being written.
func (s *shelf) close() { s.keeping.Wait() }

// Pack makes an image of files: a zip that depends on their names and contents
// alone. They aren't compressed: reading them back would take longer than it saves.
func Pack(names []string, read func(name string) ([]byte, error)) ([]byte, error) {
	var image bytes.Buffer
	w := zip.NewWriter(&image)
	for _, name := range names {
		content, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("pack image: %w", err)
		}
		file, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = file.Write(content)
		}
		if err != nil {
			return nil, fmt.Errorf("pack image: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack image: %w", err)
	}
	return image.Bytes(), nil
}

// unpackedAtMost bounds the files of an image: a small zip can hold any amount.
const unpackedAtMost = 4 * broker.MaxImage

// filesOf returns the files of a zip; anything else is Python source.
func filesOf(image io.ReaderAt, size int64) (fs.FS, error) {
	head := make([]byte, 2)
	if _, err := image.ReadAt(head, 0); err != nil || string(head) != "PK" {
		packed, err := Pack([]string{"main.py"}, func(string) ([]byte, error) {
			return io.ReadAll(io.NewSectionReader(image, 0, size))
		})
		if err != nil {
			return nil, err
		}
		image, size = bytes.NewReader(packed), int64(len(packed))
	}
	files, err := zip.NewReader(image, size)
	if err != nil {
		return nil, badImage("it begins as a zip and can't be read as one: %v", err)
	}
	left := int64(unpackedAtMost)
	for _, f := range files.File {
		if !filepath.IsLocal(f.Name) || strings.Contains(f.Name, `\`) {
			return nil, badImage("it has the file %q, which is outside of it", f.Name)
		}
		if mode := f.Mode(); !mode.IsDir() && !mode.IsRegular() {
			return nil, badImage("%q is neither a file nor a directory", f.Name)
		}
		if left -= int64(min(f.UncompressedSize64, unpackedAtMost+1)); left < 0 { //nolint:gosec // bounded just here
			return nil, badImage("its files are more than %d bytes", int64(unpackedAtMost))
		}
	}
	// Reading all directories finds names that can't be beside each other.
	if err := fs.WalkDir(files, ".", func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
		return nil, badImage("its files can't be listed: %v", err)
	}
	return zipped{files}, nil
}

// later are files that come when the first of them is opened.
type later func() (fs.FS, error)

func (l later) Open(name string) (fs.File, error) {
	files, err := l()
	if err != nil {
		return nil, err
	}
	return files.Open(name)
}

// zipped are the files of an image. What can't be read of them is the image's fault.
type zipped struct{ files *zip.Reader }

func (z zipped) Open(name string) (fs.File, error) {
	file, err := z.files.Open(name)
	if err != nil {
		return nil, badImage("%q can't be read: %v", name, err)
	}
	if dir, ok := file.(fs.ReadDirFile); ok {
		return dir, nil
	}
	return zippedFile{file, name}, nil
}

type zippedFile struct {
	fs.File
	name string
}

func (f zippedFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // as readers return it
		err = badImage("%q can't be read: %v", f.name, err)
	}
	return n, err
}

func badImage(format string, args ...any) error {
	return &wire.Error{Op: "read image", Kind: wire.KindInvalid, Msg: fmt.Sprintf(format, args...)}
}
