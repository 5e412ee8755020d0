package console

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestValue(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "@" + path
	}
	for _, test := range []struct {
		arg, stdin, mime string
		body, noted      string
	}{
		{arg: "5", body: "5"},
		{arg: "-1.5e3", body: "-1.5e3"},
		{arg: "null", body: "null"},
		{arg: `{"a": 1}`, body: `{"a": 1}`},
		{arg: `"5"`, body: `"5"`},
		{arg: "hello", body: `"hello"`},
		{arg: "", body: `""`},
		{arg: "it's <b>", body: `"it's <b>"`},
		{arg: "1 2", body: `"1 2"`},
		{arg: `{"a":`, body: `"{\"a\":"`, noted: "begins like JSON"},
		{arg: "@@ann", body: `"@ann"`},
		{arg: "-", stdin: `[1, 2]`, body: `[1, 2]`},
		{arg: "-", stdin: "some text\n", body: `"some text\n"`},
		{arg: file("a.json", "{\n}\n"), body: "{\n}\n"},
		{arg: file("a.txt", "text"), body: `"text"`},
		{arg: file("a.png", "\x89PNG"), mime: "image/png", body: "\x89PNG"},
		{arg: "5", mime: "text/plain", body: "5"},
	} {
		var errs bytes.Buffer
		c := &console{Env: Env{Stdin: strings.NewReader(test.stdin), Stderr: &errs}}
		v, err := c.value(&cobra.Command{}, input{test.mime}, test.arg)
		if err != nil {
			t.Errorf("value %q: %v", test.arg, err)
			continue
		}
		want := wire.Value{Body: []byte(test.body), Type: test.mime}
		if got, is := normal(v), normal(want); got != is {
			t.Errorf("value %q: got %s, want %s", test.arg, got, is)
		}
		if (errs.Len() > 0) != (test.noted != "") || !strings.Contains(errs.String(), test.noted) {
			t.Errorf("value %q: stderr %q; want %q", test.arg, errs.String(), test.noted)
		}
	}
	c := newTestConsole(nil)
	if _, err := c.value(&cobra.Command{}, input{}, file("b.bin", "\xff\xfe")); err == nil || !strings.Contains(err.Error(), "--type") {
		t.Errorf("bytes that are no text: got %v; want to be told of --type", err)
	}
}

// normal shows a value so that escapes of '<' in JSON don't matter.
func normal(v wire.Value) string {
	return v.Type + ":" + strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(v.Body))
}

func TestOutlet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	for _, test := range []struct {
		out    outlet
		v      wire.Value
		stdout string
	}{
		{outlet{}, wire.Value{Body: []byte("25")}, "25\n"},
		{outlet{}, wire.Value{}, ""},
		{outlet{raw: true}, wire.Value{Body: []byte("25")}, "25"},
		{outlet{raw: true}, wire.Value{Body: []byte{0xff, 0}, Type: "image/png"}, "\xff\x00"},
		{outlet{file: path}, wire.Value{Body: []byte("to a file")}, ""},
	} {
		var stdout bytes.Buffer
		c := newTestConsole(nil)
		c.Stdout = &stdout
		if err := test.out.put(c, test.v); err != nil || stdout.String() != test.stdout {
			t.Errorf("%+v of %q: got %q, %v; want %q", test.out, test.v.Body, stdout.String(), err, test.stdout)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "to a file" {
		t.Errorf("--file: the file holds %q, %v", got, err)
	}
}

func TestBytesFlag(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "1048576": 1 << 20, "1KiB": 1 << 10, "1k": 1 << 10, "512MiB": 512 << 20, "1.5GiB": 3 << 29,
		"1GB": 1e9, "2TB": 2e12, "10 MiB": 10 << 20, "7B": 7,
	} {
		var b cli.Bytes
		if err := b.Set(text); err != nil || int64(b) != want {
			t.Errorf("size %q: got %d, %v; want %d", text, b, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "lots", "MiB", "1XiB", "1e300", "NaN", "Inf", "9999999TiB"} {
		var b cli.Bytes
		if err := b.Set(text); err == nil {
			t.Errorf("size %q: got %d; want an error", text, b)
		}
	}
}
