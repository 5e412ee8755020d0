// Package loopback finds free addresses of this machine.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports begin at firstPort and end below the ports that systems give to outgoing
// connections. So a free port stays free while its server is restarted.
const (
	firstPort = 10_000
	ports     = 20_000
)

// FreeAddr returns an address of the host that nobody listens on.
func FreeAddr(host string) (string, error) {
	var last error
	for range 100 {
		addr := net.JoinHostPort(host, strconv.Itoa(firstPort+rand.IntN(ports)))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
		last = err
	}
	return "", errors.Join(fmt.Errorf("find a free port of %s", host), last)
}
