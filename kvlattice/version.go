package kvlattice

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"maps"
	"slices"
)

// Version names what a key holds: two states have the same one only if users see
// the same in both, whoever holds them. That of nothing is "-".
func Version(l Lattice) string {
	if l == nil {
		return "-"
	}
	if r, ok := l.(*LWW); ok {
		return r.ts.String() + "@" + r.writer
	}
	h := sha256.New()
	header, body := l.Encode()
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, v := range header[name] {
			_, _ = io.WriteString(h, name+"\x00"+v+"\x00") // a hash never fails
		}
	}
	_, _ = h.Write(body)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:15])
}
