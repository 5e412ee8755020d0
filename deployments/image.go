package deployments

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Inspect returns the runtime of an image: wire.RuntimeWasm or wire.RuntimePython. What no
// runtime can run is an error of wire.KindInvalid that says what it is.
func Inspect(image []byte) (string, error) {
	switch what := foreign(image); {
	case bytes.HasPrefix(image, []byte("\x00asm")):
		return wire.RuntimeWasm, nil
	case what != "":
		return "", badImage("it is %s, and neither a WebAssembly module nor Python", what)
	}
	_, err := filesOf(bytes.NewReader(image), int64(len(image)))
	return wire.RuntimePython, err
}

// formats are kinds of files by their first bytes, with what to do instead.
var formats = []struct{ begins, what string }{
	{"\x7fELF", "a program for Linux (ELF): build it for WASI instead"},
	{"\xcf\xfa\xed\xfe", "a program for macOS (Mach-O): build it for WASI instead"},
	{"\xca\xfe\xba\xbe", "a program for macOS or a class of Java: build it for WASI instead"},
	{"MZ", "a program for Windows: build it for WASI instead"},
	{"!<arch>\n", "a static library: link it to a module"},
	{"BC\xc0\xde", "LLVM bitcode: link it to a module"},
	{"\x1f\x8b", "a gzip archive: unpack it first"},
	{"BZh", "a bzip2 archive: unpack it first"},
	{"\xfd7zXZ\x00", "an xz archive: unpack it first"},
	{"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"},
	{"7z\xbc\xaf", "a 7z archive: make it a zip"},
	{"Rar!", "a RAR archive: make it a zip"},
	{"%PDF", "a PDF document"},
	{"version https://git-lfs.github.com/", "a pointer of Git LFS: fetch the file itself (git lfs pull)"},
	{"(module ", "WebAssembly as text: compile it (wat2wasm)"},
	{"(module\n", "WebAssembly as text: compile it (wat2wasm)"},
	{"(module)", "WebAssembly as text: compile it (wat2wasm)"},
	{"(component", "WebAssembly as text: compile it for WASI preview 1"},
	{"<!DOCTYPE", "an HTML page: was the download refused?"},
	{"<html", "an HTML page: was the download refused?"},
	{"<?php", "PHP source"},
	{"\xff\xfe", "text in UTF-16: save it as UTF-8"},
	{"\xfe\xff", "text in UTF-16: save it as UTF-8"},
}

// foreign says what an image is that is neither a module, Python source nor a zip; "" if
// nothing speaks against it.
func foreign(image []byte) string {
	head := image[:min(len(image), 4096)]
	text := bytes.TrimLeft(head, " \t\r\n\ufeff")
	binary := bytes.IndexByte(head, 0) >= 0 || !utf8.Valid(head[:max(0, len(head)-utf8.UTFMax)])
	for _, f := range formats {
		// What begins as some words do is source if it goes on as text.
		if bytes.HasPrefix(text, []byte(f.begins)) && len(f.begins) > 4 || bytes.HasPrefix(head, []byte(f.begins)) && binary {
			return f.what
		}
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	switch {
	case bytes.HasPrefix(head, []byte("PK")):
		return ""
	case bytes.HasPrefix(line, []byte("#!")) && !bytes.Contains(line, []byte("python")) && !bytes.Contains(line, []byte("pypy")):
		return fmt.Sprintf("a script of another language (%.60s)", line)
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return "a tar archive: make it a zip, or deploy the directory"
	case len(head) > 4 && string(head[2:4]) == "\r\n" && bytes.IndexByte(head, 0) >= 0:
		return "compiled Python (.pyc): deploy its source"
	case bytes.HasPrefix(text, []byte("{")) && bytes.Contains(image, []byte(`"nbformat"`)):
		return "a Jupyter notebook: make a Python file of it (jupyter nbconvert --to script)"
	case bytes.IndexByte(head, 0) >= 0:
		return fmt.Sprintf("a binary file of an unknown kind (it begins with %q)", head[:min(len(head), 8)])
	}
	return ""
}

// sources are the extensions of files that have to be built first.
var sources = map[string]string{
	".go": "Go", ".c": "C", ".cc": "C++", ".cpp": "C++", ".rs": "Rust", ".zig": "Zig", ".ts": "TypeScript", ".js": "JavaScript", ".mjs": "JavaScript",
	".java": "Java", ".rb": "Ruby", ".swift": "Swift", ".lua": "Lua", ".sh": "shell", ".wat": "WebAssembly text",
}

// ReadImage makes an image of a file, or of a directory of Python files: those below it that
// aren't hidden, in an archive that is the same whenever they are. A file keeps whether it
// may be executed. A symbolic link is the file or directory that it leads to, if that is
// within the directory, and else an error of wire.KindBadArgument, as is a file that can be
// seen to be something else than its name says.
func ReadImage(from string) ([]byte, error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, &wire.Error{Op: "read image", Name: from, Kind: wire.KindBadArgument, Msg: err.Error(), Err: err}
	}
	if !info.IsDir() {
		image, err := os.ReadFile(from)
		if err == nil {
			err = checkName(from, image)
		}
		return image, err
	}
	d := directory{from: from}
	if d.root, err = filepath.EvalSymlinks(from); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	if err := d.list("", d.root, nil); err != nil {
		return nil, err
	}
	if len(d.names) == 0 {
		return nil, &wire.Error{Op: "read image", Name: from, Kind: wire.KindBadArgument, Msg: "the directory holds no files"}
	}
	return Pack(d.names, func(name string) ([]byte, bool, error) {
		info, err := os.Stat(d.at(name))
		if err != nil {
			return nil, false, err
		}
		content, err := os.ReadFile(d.at(name))
		return content, info.Mode()&0o111 != 0, err
	})
}

// checkName refuses a file whose name says that it can't be run as it is.
func checkName(from string, image []byte) error {
	var msg string
	what := foreign(image)
	switch ext := strings.ToLower(path.Ext(filepath.ToSlash(from))); {
	case sources[ext] != "":
		msg = "source of " + sources[ext] + ", which has to be built to a WebAssembly module first: see docs/wasm.md"
	case ext == ".wasm" && !bytes.HasPrefix(image, []byte("\x00asm")) && what != "":
		msg = "no WebAssembly module: it is " + what
	case ext == ".wasm" && !bytes.HasPrefix(image, []byte("\x00asm")):
		msg = fmt.Sprintf("no WebAssembly module: it begins with %.16q", image)
	default:
		return nil
	}
	return &wire.Error{Op: "read image", Name: from, Kind: wire.KindBadArgument, Msg: msg}
}

// A directory is one that an image is made of.
type directory struct {
	from  string   // as it was given
	root  string   // without links
	names []string // of its files, with slashes
}

func (d *directory) at(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// list finds the files of a directory below the root. dir is where it is without links,
// above are the directories that it is within.
func (d *directory) list(name, dir string, above []string) error {
	if slices.Contains(above, dir) {
		return d.refuse(name, "a symbolic link to a directory that holds it; remove the link")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	for _, e := range entries { // in lexical order
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		below, at := path.Join(name, e.Name()), filepath.Join(dir, e.Name())
		if e.Type()&fs.ModeSymlink != 0 {
			if at, err = d.follow(below, at); err != nil {
				return err
			}
		}
		info, err := os.Stat(at)
		switch {
		case err != nil:
			return fmt.Errorf("read image: %w", err)
		case info.IsDir() && e.Name() == "__pycache__":
		case info.IsDir():
			if err := d.list(below, at, append(slices.Clip(above), dir)); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			d.names = append(d.names, below)
		default:
			return d.refuse(below, "neither a file nor a directory ("+info.Mode().Type().String()+"); remove it")
		}
	}
	return nil
}

// follow returns where a symbolic link leads to.
func (d *directory) follow(name, at string) (string, error) {
	to, err := filepath.EvalSymlinks(at)
	if err != nil {
		named, _ := os.Readlink(at) // it was one just now
		return "", d.refuse(name, fmt.Sprintf("a symbolic link to %s, which isn't there; remove it", named))
	}
	if below, err := filepath.Rel(d.root, to); err != nil || !filepath.IsLocal(below) {
		return "", d.refuse(name, fmt.Sprintf("a symbolic link to %s, outside of the directory; put the file itself there", to))
	}
	return to, nil
}

func (d *directory) refuse(name, msg string) error {
	return &wire.Error{Op: "read image", Name: d.from, Kind: wire.KindBadArgument, Msg: name + " is " + msg}
}

// Pack makes an image of files: a zip that depends on their names, their contents, and on
// whether they may be executed. They aren't compressed: reading them back would take longer
// than it saves.
func Pack(names []string, read func(name string) (content []byte, executable bool, err error)) ([]byte, error) {
	var image bytes.Buffer
	w := zip.NewWriter(&image)
	for _, name := range names {
		content, executable, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("pack image: %w", err)
		}
		header := &zip.FileHeader{Name: name, Method: zip.Store}
		if executable {
			header.SetMode(0o755)
		}
		file, err := w.CreateHeader(header)
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
		packed, err := sourceOf(image, size)
		if err != nil {
			return nil, err
		}
		image, size = bytes.NewReader(packed), int64(len(packed))
	}
	files, err := zip.NewReader(image, size)
	if err != nil {
		return nil, badImage("it begins as a zip and can't be read as one: %v", err)
	}
	if err := checkFiles(files); err != nil {
		return nil, err
	}
	// Reading all directories finds names that can't be beside each other.
	if err := fs.WalkDir(files, ".", func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
		return nil, badImage("its files can't be listed: %v", err)
	}
	return zipped{files}, nil
}

// sourceOf makes a zip of Python source.
func sourceOf(image io.ReaderAt, size int64) ([]byte, error) {
	text, err := io.ReadAll(io.NewSectionReader(image, 0, size))
	if err != nil {
		return nil, err
	}
	if what := foreign(text); what != "" {
		return nil, badImage("it is %s, and not Python", what)
	}
	return Pack([]string{"main.py"}, func(string) ([]byte, bool, error) { return text, false, nil })
}

// What file systems hold of a name, and systems of a path, less room for where it is
// unpacked to.
const (
	nameAtMost = 255
	pathAtMost = 3500
)

// checkFiles refuses a zip that can't be unpacked, or in which there is nothing to run.
func checkFiles(files *zip.Reader) error {
	left, python, module := int64(unpackedAtMost), false, ""
	for _, f := range files.File {
		if !filepath.IsLocal(f.Name) || strings.Contains(f.Name, `\`) {
			return badImage("it has the file %q, which is outside of it", f.Name)
		}
		if len(f.Name) > pathAtMost || slices.ContainsFunc(strings.Split(f.Name, "/"), func(part string) bool { return len(part) > nameAtMost }) {
			return badImage("it has the file %.80q…, whose name is too long to be unpacked: %d bytes at most, %d with its directories", f.Name, nameAtMost, pathAtMost)
		}
		switch mode := f.Mode(); {
		case mode&fs.ModeSymlink != 0:
			return badImage("%q is a symbolic link: put the file itself there", f.Name)
		case !mode.IsDir() && !mode.IsRegular():
			return badImage("%q is neither a file nor a directory", f.Name)
		case f.Flags&1 != 0:
			return badImage("%q is encrypted: make the zip without a password", f.Name)
		case f.Method != zip.Store && f.Method != zip.Deflate:
			return badImage("%q is compressed by method %d: make the zip with deflate, which all tools know", f.Name, f.Method)
		}
		if left -= int64(min(f.UncompressedSize64, unpackedAtMost+1)); left < 0 { //nolint:gosec // bounded just here
			return badImage("its files are more than %d bytes", int64(unpackedAtMost))
		}
		python = python || strings.HasSuffix(f.Name, ".py")
		if strings.HasSuffix(f.Name, ".wasm") {
			module = f.Name
		}
	}
	if !python && module != "" {
		return badImage("it holds a WebAssembly module, %s, and no Python: deploy the module itself", module)
	}
	return nil
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
