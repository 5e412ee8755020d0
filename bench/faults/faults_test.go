package faults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
)

// newStored returns a load that has made some of everything, and where all of it
// is stored as the functions of the load would.
func newStored(t *testing.T) (*load, *cloudburst.State) {
	t.Helper()
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	state := server.Client().State().In(namespace)
	l := newLoad(server.Client(), Config{})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 10; n++ {
		must(state.Put(t.Context(), orderKey(n), n))
		must(state.Counter("calls").Add(t.Context(), 1))
	}
	must(state.Counter("nodes").Add(t.Context(), 12))
	must(state.Put(t.Context(), "write:0:1", 7))
	l.calls.Store(10)
	l.dags.Store(3)
	l.acked["write:0:1"], l.tried["write:0:1"] = 5, 7
	return l, state
}

func TestAuditFindsWhatIsLostOrTwice(t *testing.T) {
	l, state := newStored(t)
	if err := l.audit(t.Context(), state); err != nil {
		t.Fatalf("all is there, and yet: %v", err)
	}
	for name, c := range map[string]struct {
		spoil func(ctx context.Context) error
		want  string
	}{
		"a call that counted twice": {func(ctx context.Context) error { return state.Counter("calls").Add(ctx, 1) }, "counter calls is 11, want 10"},
		"a DAG run that is lost":    {func(context.Context) error { l.dags.Add(1); return nil }, "counter nodes is 12, want 16"},
		"a record that is lost":     {func(ctx context.Context) error { return state.Delete(ctx, orderKey(4)) }, "key order:4"},
		"a write that is lost":      {func(ctx context.Context) error { return state.Put(ctx, "write:0:1", 4) }, "key write:0:1 holds 4, want 5"},
	} {
		if err := c.spoil(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.audit(t.Context(), state); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the audit says %v", name, err)
		}
	}
	if err := (&Report{Lost: l.audit(t.Context(), state)}).Err(); err == nil {
		t.Error("the report of a run that lost something has no error")
	}
}

func TestLinkIsCutAndHeals(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = echo.Close() }()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	l, err := newLink(echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	say := func(c net.Conn) error {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, err := io.WriteString(c, "hello"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 5))
		return err
	}
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", l.addr())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := dial()
	if err := say(c); err != nil {
		t.Fatal(err)
	}
	l.cut()
	if err := say(c); err == nil {
		t.Error("a connection outlived the cut")
	}
	if err := say(dial()); err == nil {
		t.Error("one could connect through a cut link")
	}
	l.heal()
	if err := say(dial()); err != nil {
		t.Errorf("after it healed: %v", err)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	l.heal()
	if c, err := net.Dial("tcp", l.addr()); err == nil {
		_ = c.Close()
		t.Error("one could connect through a closed link")
	}
}

func TestConfigThatIsRefused(t *testing.T) {
	_, err := Run(t.Context(), Config{Kinds: []string{"earthquake"}, Workers: 1, Calls: -1})
	for _, want := range []string{"earthquake", "workers", "calls"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't name %s: %v", want, err)
		}
	}
}

func TestReport(t *testing.T) {
	r := &Report{Calls: 5, Events: []Event{
		{Kind: "quorum", Longest: 3 * time.Second, Mended: time.Second},
		{Kind: "quorum", Longest: time.Second, Mended: time.Second},
		{Kind: "quorum", Longest: 2 * time.Second, Mended: time.Second},
	}}
	rows := r.Rows()
	if len(rows) != 1 || rows[0].Faults != 3 || rows[0].P50 != 2000 || rows[0].Max != 3000 {
		t.Errorf("%+v", rows)
	}
	var text bytes.Buffer
	if err := r.Write(&text, false); err != nil || !strings.Contains(text.String(), "nothing was lost") {
		t.Error(err, text.String())
	}
	r.Lost = errors.New("a thing")
	text.Reset()
	if err := r.Write(&text, false); err != nil || !strings.Contains(text.String(), "LOST: a thing") {
		t.Error(err, text.String())
	}
}
