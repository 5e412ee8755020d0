package kvlattice

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Headers of a causal register.
const (
	HeaderClock    = "Cb-Clock"    // the clock, see VClock.String
	HeaderVersions = "Cb-Versions" // the versions as JSON; absent if Cb-Dot tells of the only one
	HeaderDot      = "Cb-Dot"      // the only version's writer:time
	HeaderCall     = "Cb-Call"     // with Cb-Dot: names the call that wrote it
	HeaderReplaced = "Cb-Replaced" // which calls replaced which lately, see replaced.String
)

// A versionDoc is a version as it is stored.
type versionDoc struct {
	Writer  string            `json:"w,omitempty"`
	Call    string            `json:"c,omitempty"`
	At      string            `json:"t"`
	Type    string            `json:"type,omitempty"`
	Deleted bool              `json:"del,omitempty"`
	After   map[string]uint64 `json:"after,omitempty"`
	// Size is how many bytes of the body's array are its value; -1 if its value is
	// the body. In base 64 and quotes if Packed.
	Size   int  `json:"n,omitempty"`
	Packed bool `json:"b64,omitempty"`
	// Plain marks the last-writer-wins register.
	Plain bool `json:"plain,omitempty"`
}

// versionsDoc is the header Cb-Versions.
type versionsDoc struct {
	Versions  []versionDoc `json:"v"`
	PlainSeen string       `json:"seen,omitempty"` // up to which plain registers were replaced
}

// Encode returns the value as the body if there is one, and a JSON array of the
// values if there are several. Without a value it looks as a deletion does.
func (c *Causal) Encode() (wire.Header, []byte) {
	h := wire.Header{HeaderKind: {string(KindCausal)}, HeaderClock: {c.clock.String()}}
	if len(c.replaced) > 0 {
		h[HeaderReplaced] = []string{c.replaced.String()}
	}
	if len(c.versions) == 1 && c.plain == nil && c.plainSeen == (Timestamp{}) && len(c.versions[0].after) == 0 && !c.versions[0].deleted {
		v := c.versions[0] // as nearly all are
		h[HeaderDot] = []string{string(appendTime([]byte(v.dot.Writer+":"), v.dot.At))}
		if v.call != "" {
			h[HeaderCall] = []string{v.call}
		}
		if v.value.Type != "" {
			h[wire.HeaderType] = []string{v.value.Type}
		}
		return h, v.value.Body
	}
	all, plainAt := c.versions, -1
	if c.plain != nil {
		v := version{dot: Dot{c.plain.writer, c.plain.ts}, value: c.plain.value, deleted: c.plain.deleted}
		plainAt, _ = slices.BinarySearchFunc(all, v, func(a, b version) int { return b.dot.compare(a.dot) })
		all = slices.Insert(slices.Clone(all), plainAt, v)
	}
	live := 0
	for _, v := range all {
		if !v.deleted {
			live++
		}
	}
	var doc versionsDoc
	if c.plainSeen != (Timestamp{}) {
		doc.PlainSeen = string(appendTime(nil, c.plainSeen))
	}
	var body []byte
	for i, v := range all {
		d := versionDoc{
			Writer: v.dot.Writer, Call: v.call, At: string(appendTime(nil, v.dot.At)), Type: v.value.Type,
			Deleted: v.deleted, After: v.after, Plain: i == plainAt,
		}
		switch {
		case v.deleted:
		case live == 1:
			d.Size, body = -1, v.value.Body
			if v.value.Type != "" {
				h[wire.HeaderType] = []string{v.value.Type}
			}
		default:
			var text []byte
			text, d.Packed = element(v.value)
			d.Size = len(text)
			body = append(append(body, ','), text...)
		}
		doc.Versions = append(doc.Versions, d)
	}
	if live > 1 {
		body[0] = '['
		body = append(body, ']')
	}
	if live == 0 {
		h[HeaderOperation] = []string{operationDelete}
	}
	h[HeaderVersions] = []string{jsonLine(doc)}
	return h, body
}

// element returns a value as an element of a JSON array.
func element(v wire.Value) (text []byte, packed bool) {
	if v.IsJSON() && json.Valid(v.Body) {
		return v.Body, false
	}
	return []byte(`"` + base64.StdEncoding.EncodeToString(v.Body) + `"`), true
}

func jsonLine(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("kvlattice: strings and numbers that can't be written: %v", err))
	}
	return string(text)
}

func decodeCausal(e Entry) (*Causal, error) {
	clock, err := parseVClock(wire.First(e.Header, HeaderClock))
	if err != nil {
		return nil, damaged(KindCausal, err.Error())
	}
	c := &Causal{clock: clock}
	if c.replaced, err = parseReplaced(wire.First(e.Header, HeaderReplaced)); err != nil {
		return nil, damaged(KindCausal, err.Error())
	}
	if text := wire.First(e.Header, HeaderVersions); text != "" {
		err = c.readVersions(text, e)
	} else {
		err = c.readDot(wire.First(e.Header, HeaderDot), e)
	}
	if err != nil {
		return nil, damaged(KindCausal, err.Error())
	}
	for _, v := range c.versions {
		c.clock.Add(v.dot)
	}
	c.sort()
	c.hidePlain()
	return c, nil
}

func (c *Causal) readDot(text string, e Entry) error {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return fmt.Errorf("%s: %q isn't writer:time", HeaderDot, text)
	}
	at, err := parseTime(text[colon+1:])
	call := strings.Clone(wire.First(e.Header, HeaderCall))
	if err == nil {
		err = cmp.Or(checkWriter(text[:colon]), checkWriter(call))
	}
	if err != nil {
		return err
	}
	value := wire.Value{Body: e.Body, Type: wire.First(e.Header, wire.HeaderType)}
	value.Type = textType(value)
	c.versions = []version{{dot: Dot{text[:colon], at}, value: value, call: call}}
	return nil
}

func (c *Causal) readVersions(text string, e Entry) error {
	var doc versionsDoc
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return fmt.Errorf("%s: %w", HeaderVersions, err)
	}
	if doc.PlainSeen != "" {
		at, err := parseTime(doc.PlainSeen)
		if err != nil {
			return err
		}
		c.plainSeen = at
	}
	rest := e.Body
	for _, d := range doc.Versions {
		v, err := d.version(e, &rest)
		if err != nil {
			return err
		}
		switch {
		case d.Plain && c.plain == nil:
			c.plain = &LWW{value: v.value, ts: v.dot.At, writer: v.dot.Writer, deleted: v.deleted}
		case d.Plain, c.find(v.dot) != nil:
			return fmt.Errorf("%s: %s at %s twice", HeaderVersions, d.Writer, d.At)
		default:
			c.versions = append(c.versions, v)
		}
	}
	return doc.complete(e.Body, rest)
}

// complete says whether the versions account for all of the body: rest is what
// they left of it. A body that they don't was changed or lost on the way.
func (doc *versionsDoc) complete(body, rest []byte) error {
	whole, parts := 0, 0
	for _, d := range doc.Versions {
		switch {
		case d.Deleted:
		case d.Size < 0:
			whole++
		default:
			parts++
		}
	}
	switch {
	case whole == 1 && parts == 0, whole == 0 && parts > 0 && string(rest) == "]", whole+parts == 0 && len(body) == 0:
		return nil
	}
	return fmt.Errorf("%s: the body isn't that of its values", HeaderVersions)
}

// version reads one version, and its value from what is left of the array.
func (d *versionDoc) version(e Entry, rest *[]byte) (version, error) {
	at, err := parseTime(d.At)
	if err == nil && !d.Plain { // which isn't in the clock
		err = cmp.Or(checkWriter(d.Writer), checkWriter(d.Call))
	}
	if err != nil {
		return version{}, err
	}
	v := version{dot: Dot{d.Writer, at}, deleted: d.Deleted, call: d.Call}
	if len(d.After) > 0 {
		v.after = d.After
	}
	if d.Deleted {
		return v, nil
	}
	v.value.Type = textType(wire.Value{Type: d.Type})
	if d.Size < 0 {
		v.value.Body = e.Body
		return v, nil
	}
	v.value.Body, err = d.element(rest, len(*rest) == len(e.Body))
	return v, err
}

// element takes the version's value from what is left of the body's array.
func (d *versionDoc) element(rest *[]byte, first bool) ([]byte, error) {
	if d.Size > len(*rest)-2 { // with what is before and after it
		return nil, fmt.Errorf("%s: the body is shorter than its values", HeaderVersions)
	}
	before, text := (*rest)[0], (*rest)[1:1+d.Size]
	*rest = (*rest)[1+d.Size:]
	if first && before != '[' || !first && before != ',' || !json.Valid(text) {
		return nil, fmt.Errorf("%s: the body isn't that of its values", HeaderVersions)
	}
	if !d.Packed {
		return bytes.Clone(text), nil // it may outlive the other values of the message
	}
	var value []byte // JSON has bytes in base 64
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, fmt.Errorf("%s: %w", HeaderVersions, err)
	}
	return value, nil
}

// textType is headerType of what JSON has to hold as well: UTF-8.
func textType(v wire.Value) string { return strings.ToValidUTF8(headerType(v), "?") }

// afterText orders and names what a version needs.
func afterText(after map[string]uint64) string {
	var b strings.Builder
	for _, ns := range slices.Sorted(maps.Keys(after)) {
		b.WriteString(ns + "=" + strconv.FormatUint(after[ns], 10) + " ")
	}
	return b.String()
}
