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
)

// A shelf keeps images on this machine's disk:
//
//	<dir>/<digest>/image    the image as it was deployed
//	<dir>/<digest>/files/   of Python: the files in it
//
// A digest's directory appears whole or not at all, and its image is compared
// with its name when it is first used: what a crash or somebody's hand has
// damaged is pulled again. Several workers may share one directory.
type shelf struct {
	b   *broker.Broker
	dir string

	mu      sync.Mutex // guards checked
	checked map[string]bool
}

func newShelf(b *broker.Broker, dir string) *shelf {
	return &shelf{b: b, dir: dir, checked: make(map[string]bool)}
}

// path returns where the image's code is: a module's file, or the directory of
// Python files. It pulls what isn't here.
func (s *shelf) path(ctx context.Context, f *wire.Function) (string, error) {
	home := filepath.Join(s.dir, f.Image)
	code := filepath.Join(home, "image")
	if f.Runtime == wire.RuntimePython {
		code = filepath.Join(home, "files")
	}
	if s.good(f.Image, filepath.Join(home, "image"), code) {
		return code, nil
	}
	if err := s.pull(ctx, f, home); err != nil {
		return "", err
	}
	s.mu.Lock()
	s.checked[f.Image] = true
	s.mu.Unlock()
	return code, nil
}

// good says whether the disk has the image, and whole.
func (s *shelf) good(digest, image, code string) bool {
	s.mu.Lock()
	checked := s.checked[digest]
	s.mu.Unlock()
	if _, err := os.Stat(code); err != nil {
		return false
	}
	if checked {
		return true
	}
	file, err := os.Open(image)
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // only read
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil || hex.EncodeToString(sum.Sum(nil)) != digest {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked[digest] = true
	return true
}

// pull brings an image from the object store into its directory.
func (s *shelf) pull(ctx context.Context, f *wire.Function, home string) (err error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil { //nolint:gosec // code runs as another user, who has to read it
		return fmt.Errorf("make the directory of images: %w", err)
	}
	temp, err := os.MkdirTemp(s.dir, "pull-")
	if err != nil {
		return fmt.Errorf("pull image: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if err := os.Chmod(temp, 0o755); err != nil { //nolint:gosec // as above
		return fmt.Errorf("pull image: %w", err)
	}
	image := bytes.NewBuffer(make([]byte, 0, min(f.Size, broker.MaxImage)))
	if err := s.b.Image(ctx, f.Image, image); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, "image"), image.Bytes(), 0o644); err != nil { //nolint:gosec // as above
		return fmt.Errorf("pull image: %w", err)
	}
	if f.Runtime == wire.RuntimePython {
		if err := unpack(image.Bytes(), filepath.Join(temp, "files")); err != nil {
			return err
		}
	}
	err = os.Rename(temp, home)
	if errors.Is(err, fs.ErrExist) { // damaged, or another worker was as fast
		if err = os.RemoveAll(home); err == nil {
			err = os.Rename(temp, home)
		}
	}
	if err != nil {
		return fmt.Errorf("pull image: %w", err)
	}
	return nil
}

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

// unpack writes the files of a zip below dir; anything else is Python source.
func unpack(image []byte, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as above
		return fmt.Errorf("unpack image: %w", err)
	}
	if !bytes.HasPrefix(image, []byte("PK")) {
		if err := os.WriteFile(filepath.Join(dir, "main.py"), image, 0o644); err != nil { //nolint:gosec // as above
			return fmt.Errorf("unpack image: %w", err)
		}
		return nil
	}
	files, err := zip.NewReader(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return badImage("it begins as a zip and can't be read as one: %v", err)
	}
	left := int64(unpackedAtMost)
	for _, f := range files.File {
		if !filepath.IsLocal(f.Name) || strings.Contains(f.Name, `\`) {
			return badImage("it has the file %q, which is outside of it", f.Name)
		}
		if left -= int64(min(f.UncompressedSize64, unpackedAtMost+1)); left < 0 { //nolint:gosec // bounded just here
			return badImage("its files are more than %d bytes", int64(unpackedAtMost))
		}
		if err := unpackFile(f, filepath.Join(dir, filepath.FromSlash(f.Name))); err != nil {
			return err
		}
	}
	return nil
}

func unpackFile(f *zip.File, path string) (err error) {
	switch mode := f.Mode(); {
	case mode.IsDir():
		return os.MkdirAll(path, 0o755) //nolint:gosec // as above
	case !mode.IsRegular():
		return badImage("%q is neither a file nor a directory", f.Name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as above
		return fmt.Errorf("unpack image: %w", err)
	}
	in, err := f.Open()
	if err != nil {
		return badImage("%q can't be read: %v", f.Name, err)
	}
	defer in.Close()                                                        //nolint:errcheck // only read
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // as above
	if err != nil {
		return badImage("%q can't be written: %v", f.Name, err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.CopyN(out, in, int64(min(f.UncompressedSize64, unpackedAtMost))); err != nil { //nolint:gosec // bounded just here
		return badImage("%q can't be read: %v", f.Name, err)
	}
	return nil
}

func badImage(format string, args ...any) error {
	return &wire.Error{Op: "read image", Kind: wire.KindInvalid, Msg: fmt.Sprintf(format, args...)}
}
