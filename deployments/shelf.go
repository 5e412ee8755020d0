package deployments

import (
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
	"sync"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
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

	mu      sync.Mutex      // guards checked
	checked map[string]bool // by digest: one for each version that was loaded here, 80 bytes each
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

// later are files that come when the first of them is opened.
type later func() (fs.FS, error)

func (l later) Open(name string) (fs.File, error) {
	files, err := l()
	if err != nil {
		return nil, err
	}
	return files.Open(name)
}
