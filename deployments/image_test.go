package deployments

import (
	"archive/zip"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestInspectNamesWhatCantRun(t *testing.T) {
	for image, want := range map[string]string{
		"\x7fELF\x02\x01\x01\x00\x00\x00": "a program for Linux (ELF)",
		"MZ\x90\x00\x03":                  "a program for Windows",
		"\x1f\x8b\x08\x00\x00":            "a gzip archive",
		"BZh91AY&SY\x00\xff":              "a bzip2 archive",
		"version https://git-lfs.github.com/spec/v1\noid sha256:00\n": "Git LFS",
		"(module)":                     "WebAssembly as text",
		" \n<!DOCTYPE html>\n<html>":   "an HTML page",
		"#!/bin/sh\necho hi\n":         "a script of another language (#!/bin/sh)",
		"\xcb\r\r\n\x00\x00\x00":       "compiled Python",
		"\xff\xfed\x00e\x00f\x00":      "UTF-16",
		`{"cells": [], "nbformat": 4}`: "a Jupyter notebook",
		"a\x00b":                       "a binary file of an unknown kind",
		"file" + strings.Repeat("\x00", 253) + "ustar\x00": "a tar archive",
	} {
		_, err := Inspect([]byte(image))
		wantKind(t, err, wire.KindInvalid, want, "neither a WebAssembly module nor Python")
	}
	for image, want := range map[string]string{
		"\x00asm\x01\x00\x00\x00":        wire.RuntimeWasm,
		"def handler(cb): pass":          wire.RuntimePython,
		"\ufeffdef handler(cb): pass":    wire.RuntimePython,
		"#!/usr/bin/env python3\nMZ = 1": wire.RuntimePython,
		"MZ = 1":                         wire.RuntimePython,
		"# -*- coding: latin-1 -*-\nx = '\xe4'" + strings.Repeat(" ", 9): wire.RuntimePython,
		"(module, x) = 1, 2":                      wire.RuntimePython,
		"'''" + strings.Repeat("ä", 4000) + "'''": wire.RuntimePython,
	} {
		if got, err := Inspect([]byte(image)); got != want || err != nil {
			t.Errorf("%.30q: got %q %v, want %q", image, got, err, want)
		}
	}
}

func TestInspectLooksIntoZips(t *testing.T) {
	one := func(h *zip.FileHeader) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		if _, err := w.CreateRaw(h); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	link := &zip.FileHeader{Name: "link.py"}
	link.SetMode(fs.ModeSymlink | 0o777)
	for want, h := range map[string]*zip.FileHeader{
		"symbolic link": link, "encrypted": {Name: "a.py", Flags: 1}, "method 93": {Name: "a.py", Method: 93},
		"it holds a WebAssembly module, a.wasm": {Name: "a.wasm"},
	} {
		_, err := Inspect(one(h))
		wantKind(t, err, wire.KindInvalid, want)
	}
}

// tree makes files below a directory: a name with "->" is a link, one that ends in "!" may be executed.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		name, to, link := strings.Cut(name, "->")
		name, executable := strings.CutSuffix(name, "!")
		at := filepath.Join(dir, "in", filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(at), 0o750)
		switch {
		case err == nil && link:
			err = os.Symlink(to, at)
		case err == nil:
			err = os.WriteFile(at, []byte(name), 0o600)
		}
		if err == nil && executable {
			err = os.Chmod(at, 0o700) //nolint:gosec // that is what is tested
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "in")
}

func TestDirectoriesKeepLinksAndModes(t *testing.T) {
	image, err := ReadImage(tree(t, "main.py", "bin/tool!", "real.json", "config.json->real.json", "lib/a.py", "copy->lib", "lib/up->../real.json", ".hidden->/etc/passwd", "__pycache__/x.pyc"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filesOf(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := fs.Stat(files, name)
		if err != nil {
			return err
		}
		content, err := fs.ReadFile(files, name)
		got[name] = string(content)
		if info.Mode()&0o111 != 0 {
			got[name] += "!"
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"main.py": "main.py", "bin/tool": "bin/tool!", "real.json": "real.json", "config.json": "real.json", "lib/a.py": "lib/a.py",
		"lib/up": "real.json", "copy/a.py": "lib/a.py", "copy/up": "real.json",
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s: got %q, want %q", name, got[name], content)
		}
	}
}

func TestDirectoriesAreRefusedByName(t *testing.T) {
	for want, names := range map[string][]string{
		"out is a symbolic link to /etc/hostname, outside":         {"main.py", "out->/etc/hostname"},
		"lib/up is a symbolic link to":                             {"main.py", "lib/up->../.."},
		"gone is a symbolic link to nowhere, which isn't there":    {"main.py", "gone->nowhere"},
		"around/around is a symbolic link to":                      {"main.py", "around/around->nowhere"},
		"lib/self is a symbolic link to a directory that holds it": {"main.py", "lib/self->../lib"},
		"the directory holds no files":                             {".hidden"},
	} {
		_, err := ReadImage(tree(t, names...))
		wantKind(t, err, wire.KindBadArgument, want)
	}
	for name, want := range map[string]string{
		"a.wasm": "no WebAssembly module: it begins with", "b.go": "source of Go", "c.wat": "source of WebAssembly text",
	} {
		_, err := ReadImage(filepath.Join(tree(t, name), name))
		wantKind(t, err, wire.KindBadArgument, want)
	}
}
