package cloudburst

import (
	"encoding/binary"
	"errors"
)

// What can be asked for. A request is one of these and its fields, a response is a
// byte of status and fields; a field is its length, in four bytes, and its bytes.
const (
	opGet      = 'g'
	opPut      = 'p'
	opDelete   = 'd'
	opVersions = 'v'
	opUpdate   = 'u'
	opRead     = 'r'
	opStart    = 's'
	opAwait    = 'w'
	opMessage  = 'm'
	opReceive  = 'c'
	opLog      = 'l'
	opInfo     = 'i'
	opArgs     = 'a'
	opReturn   = 't'
	opField    = 'f'
	opFail     = 'x'
)

// A response is what the platform has answered.
type response struct {
	rest    []byte // fields that weren't taken yet
	nothing bool   // of that name
	err     error
}

// request returns one.
func request(op byte, fields ...[]byte) []byte {
	size := 1
	for _, f := range fields {
		size += 4 + len(f)
	}
	b := append(make([]byte, 0, size), op)
	for _, f := range fields {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f))) //nolint:gosec // memory ends at 4 GiB
		b = append(b, f...)
	}
	return b
}

// ask makes a request.
func ask(op byte, fields ...[]byte) *response {
	answer := exchange(request(op, fields...))
	if len(answer) == 0 {
		return &response{err: errors.New("no platform to ask: build with GOOS=wasip1 GOARCH=wasm and deploy it")}
	}
	r := &response{rest: answer[1:]}
	switch answer[0] {
	case 'n':
		r.nothing = true
	case 'e':
		kind, message := r.field(), r.field()
		r.err = &Error{Kind: string(kind), Message: string(message)}
	}
	return r
}

// field takes the next field.
func (r *response) field() []byte {
	n := binary.LittleEndian.Uint32(r.rest)
	field := r.rest[4 : 4+n]
	r.rest = r.rest[4+n:]
	return field
}

func (r *response) text() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.field(), nil
}

func (r *response) value() (Value, error) {
	if r.err != nil {
		return Value{}, r.err
	}
	kind := r.field()
	return Value{Type: string(kind), Body: r.field()}, nil
}
