package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
)

// fakeRedis answers SET and GET as the protocol has it.
func fakeRedis(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveRedis(conn)
		}
	}()
	return l.Addr().String()
}

func serveRedis(conn net.Conn) {
	defer conn.Close()
	values := make(map[string][]byte)
	in := bufio.NewReader(conn)
	number := func() (n int) {
		line, _ := in.ReadString('\n')
		if len(line) > 1 {
			n, _ = strconv.Atoi(strings.TrimSpace(line[1:]))
		}
		return n
	}
	for {
		args := make([][]byte, number())
		if len(args) == 0 {
			return
		}
		for i := range args {
			body := make([]byte, number()+2)
			if _, err := io.ReadFull(in, body); err != nil {
				return
			}
			args[i] = body[:len(body)-2]
		}
		switch value := values[string(args[1])]; {
		case string(args[0]) == "SET":
			values[string(args[1])] = args[2]
			fmt.Fprint(conn, "+OK\r\n")
		case string(args[1]) == "broken":
			fmt.Fprint(conn, "-ERR it is broken\r\n")
		case value == nil:
			fmt.Fprint(conn, "$-1\r\n")
		default:
			fmt.Fprintf(conn, "$%d\r\n%s\r\n", len(value), value)
		}
	}
}

func TestRedisClient(t *testing.T) {
	t.Parallel()
	c, err := dialRedis(fakeRedis(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	value := bytes.Repeat([]byte("a\r\n$3"), 100_000)
	if err := c.set("k", value); err != nil {
		t.Fatal(err)
	}
	if got, err := c.get("k"); err != nil || !bytes.Equal(got, value) {
		t.Errorf("get: %d bytes, %v; want the %d that were set", len(got), err, len(value))
	}
	if got, err := c.get("nothing"); err == nil {
		t.Errorf("get of nothing: %q, want an error", got)
	}
	if _, err := c.get("broken"); err == nil || !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("get of a broken key: %v, want what the server said", err)
	}
	if got, err := c.get("k"); err != nil || !bytes.Equal(got, value) {
		t.Errorf("get after an error: %d bytes, %v", len(got), err)
	}
}

func TestSumOf(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 3, 4, 5, 1000, 1003} {
		body, want := array(n, 1)
		if got := sumOf(body); got < want-1e-9 || got > want+1e-9 || len(body) != 8*n {
			t.Errorf("sum of %d numbers, %d bytes: %v, want %v", n, len(body), got, want)
		}
	}
}
