package anomalies

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadFrame(t *testing.T) {
	const stream = "INFO {}\r\n" +
		"MSG cb.upd.ns.k 3 5\r\nMSG \n\r\n" + // a body that looks like protocol
		"HMSG cb.upd.ns.k 3 reply 4 9\r\nNATS\r\n123\r\n" +
		"MSG cb.call.f 1 0\r\n\r\n" +
		"PING\r\n"
	in := bufio.NewReader(strings.NewReader(stream))
	var all strings.Builder
	var told []bool
	for {
		frame, news, err := readFrame(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all.Write(frame)
		told = append(told, news)
	}
	if all.String() != stream {
		t.Errorf("passes on %q, want %q", all.String(), stream)
	}
	if want := []bool{false, true, true, false, false}; len(told) != len(want) || told[1] != want[1] || told[2] != want[2] || told[3] != want[3] {
		t.Errorf("takes for news %v, want %v", told, want)
	}
}

// News comes late and in order; what follows it overtakes it.
func TestLagHoldsNewsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		worker, passed := io.Pipe()
		server, says := io.Pipe()
		l := &lag{}
		go func() {
			l.hold(passed, server, time.Second)
			passed.Close()
		}()
		began := time.Now()
		go func() {
			_, _ = io.WriteString(says, "MSG cb.upd.a 1 1\r\n1\r\nMSG cb.upd.a 1 1\r\n2\r\nPING\r\n")
		}()
		lines := bufio.NewScanner(worker)
		var got []string
		for len(got) < 5 && lines.Scan() {
			got = append(got, lines.Text())
			if len(got) == 1 && time.Since(began) != 0 {
				t.Errorf("%q came after %s", got[0], time.Since(began))
			}
		}
		if want := "PING MSG cb.upd.a 1 1 1 MSG cb.upd.a 1 1 2"; strings.Join(got, " ") != want {
			t.Errorf("passed on %q, want %q", got, want)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("news came after %s, want 1s", took)
		}
		says.Close()
		if lines.Scan() {
			t.Errorf("more: %q", lines.Text())
		}
	})
}
