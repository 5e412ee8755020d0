package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A redisClient is one connection to a Redis server. It knows three commands of its
// protocol (RESP), which is all that a comparison needs.
type redisClient struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
}

func dialRedis(addr string) (*redisClient, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	return &redisClient{addr, conn, bufio.NewReaderSize(conn, 64<<10)}, nil
}

func (c *redisClient) set(key string, value []byte) error {
	_, err := c.do([]byte("SET"), []byte(key), value)
	return err
}

func (c *redisClient) get(key string) ([]byte, error) {
	v, err := c.do([]byte("GET"), []byte(key))
	if err == nil && v == nil {
		err = fmt.Errorf("redis has no %q", key)
	}
	return v, err
}

// do sends a command and reads its answer; nil is the null one.
func (c *redisClient) do(args ...[]byte) ([]byte, error) {
	var head net.Buffers
	head = append(head, fmt.Appendf(nil, "*%d\r\n", len(args)))
	for _, arg := range args {
		head = append(head, fmt.Appendf(nil, "$%d\r\n", len(arg)), arg, []byte("\r\n"))
	}
	if _, err := head.WriteTo(c.conn); err != nil {
		return nil, fmt.Errorf("write to Redis: %w", err)
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("read from Redis: %w", err)
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("redis answers with an empty line")
	}
	switch rest := line[1:]; line[0] {
	case '+', ':':
		return []byte(rest), nil
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return nil, err
		}
		body := make([]byte, n+len("\r\n"))
		if _, err := io.ReadFull(c.in, body); err != nil {
			return nil, fmt.Errorf("read from Redis: %w", err)
		}
		return body[:n], nil
	}
	return nil, errors.New("redis: " + line)
}

// redisClients keeps connections for later uses.
type redisClients struct {
	mu   sync.Mutex // guards free
	free []*redisClient
}

func newRedisClients() *redisClients { return new(redisClients) }

// use calls fn with a connection to the address.
func (r *redisClients) use(addr string, fn func(*redisClient) error) error {
	var c *redisClient
	r.mu.Lock()
	if n := len(r.free); n > 0 && r.free[n-1].addr == addr {
		c, r.free = r.free[n-1], r.free[:n-1]
	}
	r.mu.Unlock()
	if c == nil {
		var err error
		if c, err = dialRedis(addr); err != nil {
			return err
		}
	}
	if err := fn(c); err != nil {
		return errors.Join(err, c.conn.Close())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, c)
	return nil
}

func (r *redisClients) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.free {
		_ = c.conn.Close() // nothing is under way on it
	}
	r.free = nil
}

// redis starts a Redis server that keeps nothing on disk, and connects to it. It is
// nil where none is installed.
func (s *site) redis(ctx context.Context) (*redisClient, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // said above
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for Redis: %w", err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	if err := l.Close(); err != nil {
		return nil, fmt.Errorf("find a port for Redis: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Redis: %w", err)
	}
	s.ends = append(s.ends, func() error {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // and says that it was killed
		return nil
	})
	for late := time.Now().Add(readyWithin); ; {
		c, err := dialRedis(addr)
		if err == nil {
			if _, err = c.do([]byte("PING")); err == nil {
				return c, nil
			}
		}
		if time.Now().After(late) {
			return nil, fmt.Errorf("redis is not ready after %v: %w", readyWithin, err)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
