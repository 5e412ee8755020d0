package kvlattice

import (
	"fmt"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A key may be any text; a NATS subject may not. Keys are stored escaped: the
// bytes A-Z a-z 0-9 _ / - stay as they are, and so does a dot that splits two
// non-empty tokens; every other byte becomes '=' and two hexadecimal digits,
// as in quoted-printable mail. No token of an escaped key is ever "=" alone,
// so that can split a key from the writer of a slot:
//
//	cart.42          the base of "cart.42"
//	cart.42.=.w7     the slot of the writer w7
//	a=20b            the base of "a b"

// MaxKey is the longest key, in bytes, as it is stored.
const MaxKey = 512

// slotMark stands between a key and the writer of a slot.
const slotMark = ".=."

// EscapeKey returns how a key is stored. An empty key is an error of
// wire.KindBadName, one that gets too long of wire.KindTooLarge.
func EscapeKey(key string) (string, error) {
	if key == "" {
		return "", &wire.Error{Kind: wire.KindBadName, Name: "key", Msg: "a key can't be empty"}
	}
	special := 0
	for i := range len(key) {
		if !plain(key, i) {
			special++
		}
	}
	n := len(key) + 2*special
	if n > MaxKey {
		return "", &wire.Error{
			Kind: wire.KindTooLarge, Name: clipKey(key),
			Msg: fmt.Sprintf("the key takes %d bytes as it is stored, %d at most; letters, digits, '_', '/', '-' and '.' take one, other bytes three", n, MaxKey),
		}
	}
	if special == 0 {
		return key, nil
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, n)
	for i := range len(key) {
		if c := key[i]; plain(key, i) {
			b = append(b, c)
		} else {
			b = append(b, '=', digits[c>>4], digits[c&15])
		}
	}
	return string(b), nil
}

// UnescapeKey returns the key that EscapeKey stores as escaped. Anything else
// (a key made by hand may have a bare '=') is an error of wire.KindBadName.
func UnescapeKey(escaped string) (string, error) {
	key := escaped
	if strings.Contains(escaped, "=") {
		b := make([]byte, 0, len(escaped))
		for i := 0; i < len(escaped); i++ {
			c := escaped[i]
			if c == '=' && i+2 < len(escaped) {
				c = unhex(escaped[i+1])<<4 | unhex(escaped[i+2])
				i += 2
			}
			b = append(b, c)
		}
		key = string(b)
	}
	// One comparison finds whatever isn't as EscapeKey writes it.
	if again, err := EscapeKey(key); err != nil || again != escaped {
		return "", &wire.Error{Kind: wire.KindBadName, Name: clipKey(escaped), Msg: "isn't an escaped key"}
	}
	return key, nil
}

// SlotKey returns where the writer's slot of an escaped key is stored. The
// writer must be one token of a subject.
func SlotKey(escaped, writer string) string { return escaped + slotMark + writer }

// SplitSlot takes a stored key apart. The writer is empty if it is a base.
func SplitSlot(stored string) (escaped, writer string) {
	escaped, writer, _ = strings.Cut(stored, slotMark)
	return escaped, writer
}

// plain says whether the i-th byte of a key stays as it is.
func plain(key string, i int) bool {
	switch c := key[i]; {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '/', c == '-':
		return true
	case c == '.': // a token must not be empty
		return 0 < i && i < len(key)-1 && key[i-1] != '.'
	}
	return false
}

// unhex returns a digit's value, 0 for what isn't one.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0
}

// clipKey shortens a key so that an error can quote it.
func clipKey(key string) string {
	const most = 80
	if len(key) > most {
		return strings.ToValidUTF8(key[:most], "") + "…"
	}
	return key
}
