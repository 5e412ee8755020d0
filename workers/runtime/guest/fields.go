package guest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// AppendField appends a field to b.
func AppendField[T string | []byte](b []byte, field T) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(field))) //nolint:gosec // values are 64 MiB at most
	return append(b, field...)
}

// CutField takes the first field off b. It is a part of b, as is the rest.
func CutField(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	if b = b[4:]; n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// Value checks what a guest gives for a value: JSON is to be JSON, and a type a
// short line that can stand in a header. The value's body is body itself.
func Value(typ, body []byte) (wire.Value, error) {
	const longest = 255
	if len(typ) > longest {
		return wire.Value{}, badArgument("a type of %d bytes: %d at most", len(typ), longest)
	}
	for _, c := range typ {
		if c < ' ' || c > '~' {
			return wire.Value{}, badArgument("the type %q: a MIME type is printable ASCII", typ)
		}
	}
	v := wire.Value{Type: string(typ), Body: body}
	if v.IsJSON() && len(body) > 0 && !json.Valid(body) {
		return wire.Value{}, badArgument("not valid JSON: %.80q; give bytes that are none a type", body)
	}
	return v, nil
}

// fieldsOf is how many fields each request has.
var fieldsOf = map[byte]int{
	OpGet: 2, OpPut: 4, OpDelete: 2, OpVersions: 2, OpUpdate: 4, OpRead: 3,
	OpStart: 3, OpAwait: 1, OpLog: 1, OpInfo: 0, OpArgs: 0, OpReturn: 2, OpMessage: 3, OpReceive: 1, OpField: 3, OpFail: 1,
}

// ofState are requests that read or write a place.
var ofState = map[byte]bool{OpGet: true, OpPut: true, OpDelete: true, OpVersions: true, OpUpdate: true, OpRead: true, OpField: true}

// moreOf is how many fields may follow them.
var moreOf = map[byte]int{OpStart: 1}

// fields are a request's: no request has more.
type fields [4][]byte

// Readable says whether a request can be read. A runtime whose guests share the way
// to their host with what else they do tells by it what is no request.
func Readable(request []byte) bool {
	if len(request) == 0 || len(request) > MaxRequest {
		return false
	}
	_, err := split(request[0], request[1:])
	return err == nil
}

// split takes a request's fields apart.
func split(op byte, b []byte) (f fields, err error) {
	n, ok := fieldsOf[op]
	if !ok {
		return f, badRequest("nothing is asked for by %q", op)
	}
	for i := range n {
		if f[i], b, ok = CutField(b); !ok {
			return f, badRequest("%q has %d fields, and number %d is cut short", op, n, i+1)
		}
	}
	for i := n; i < n+moreOf[op] && len(b) > 0; i++ {
		if f[i], b, ok = CutField(b); !ok {
			return f, badRequest("%q may have %d fields, and number %d is cut short", op, n+moreOf[op], i+1)
		}
	}
	if len(b) > 0 {
		return f, badRequest("%q has %d fields, and %d bytes follow them", op, n, len(b))
	}
	return f, nil
}

func badRequest(format string, args ...any) error {
	return &wire.Error{Op: "request", Kind: wire.KindBadArgument, Msg: fmt.Sprintf(format, args...)}
}

func badArgument(format string, args ...any) error {
	return &wire.Error{Kind: wire.KindBadArgument, Msg: fmt.Sprintf(format, args...)}
}
