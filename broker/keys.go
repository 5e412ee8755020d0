package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// keysAtOnce is how many keys are looked at together for whether they were
// deleted; well below what the server reads at once.
const keysAtOnce = 256

// Keys lists the keys that begin with prefix, in the order of how they are
// stored, at most limit of them (0: all). Keys that were deleted are left out
// unless a slot is still to be folded into them. It makes no consumer, and holds
// a page of the server's, 100,000 subjects, in memory. Keys that come and go
// meanwhile may be left out or, rarely, listed twice.
func (k *Bucket) Keys(ctx context.Context, prefix string, limit int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		n := 0
		for key, err := range k.listed(ctx, prefix, "") {
			if limit > 0 && n == limit || !yield(key.name, err) {
				return
			}
			n++
		}
	}
}

// KeysPage returns one page of Keys, limit keys at most (1 at least). after is what
// the page before had as next, and empty for the first. next is empty if there are no
// more. Another after is an error of KindBadArgument.
func (k *Bucket) KeysPage(ctx context.Context, prefix, after string, limit int) (keys []string, next string, err error) {
	at, err := base64.RawURLEncoding.DecodeString(after)
	if err != nil {
		return nil, "", &wire.Error{Op: "list keys", Name: k.ns, Kind: wire.KindBadArgument, Msg: fmt.Sprintf("no list of keys goes on after %q: send what the page before has as next", after)}
	}
	last := ""
	for key, err := range k.listed(ctx, prefix, string(at)) {
		if err != nil {
			return nil, "", err
		}
		if len(keys) == limit {
			return keys, base64.RawURLEncoding.EncodeToString([]byte(last)), nil
		}
		keys, last = append(keys, key.name), key.at
	}
	return keys, "", nil
}

// A listedKey is a key and where it stands in the list: the first of its subjects.
type listedKey struct{ name, escaped, at string }

// listed lists the keys that begin with prefix and stand after a subject.
func (k *Bucket) listed(ctx context.Context, prefix, after string) iter.Seq2[listedKey, error] {
	return func(yield func(listedKey, error) bool) {
		for page, err := range k.subjectPages(ctx, k.filter(prefix)) {
			if err != nil {
				yield(listedKey{}, apiError("list keys", k.ns, err))
				return
			}
			keys, slots := k.keysOf(page, prefix, after)
			for part := range slices.Chunk(keys, keysAtOnce) {
				part, err := k.present(ctx, part, slots)
				if err != nil {
					yield(listedKey{}, apiError("list keys", k.ns, err))
					return
				}
				for _, key := range part {
					if !yield(key, nil) {
						return
					}
				}
			}
		}
	}
}

// filter returns the narrowest subject under which all keys with the prefix
// are. Only whole tokens of a prefix narrow it, and only where every key with
// the prefix is stored with the same tokens: "a." is itself a key, stored as
// "a=2E".
func (k *Bucket) filter(prefix string) string {
	if i := strings.LastIndexByte(prefix, '.'); i > 0 && i < len(prefix)-1 && !strings.Contains(prefix, "..") && prefix[0] != '.' {
		if head, err := kvlattice.EscapeKey(prefix[:i]); err == nil {
			return bucketSubject(k.ns, head+".>")
		}
	}
	return bucketSubject(k.ns, ">")
}

// subjectPages lists the stream's subjects under a filter, sorted, in pages.
func (k *Bucket) subjectPages(ctx context.Context, filter string) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for offset := 0; ; {
			page, total, err := k.subjectPage(ctx, filter, offset)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(page) == 0 || !yield(page, nil) {
				return
			}
			if offset += len(page); offset >= total {
				return
			}
		}
	}
}

// pageWithin bounds one page. It is long because the server collects and sorts all
// the subjects that match for each: with a million keys that takes it seconds.
const pageWithin = time.Minute

func (k *Bucket) subjectPage(ctx context.Context, filter string, offset int) (page []string, total int, err error) {
	body, err := json.Marshal(struct {
		Filter string `json:"subjects_filter"`
		Offset int    `json:"offset"`
	}{filter, offset})
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, max(k.b.timeout, pageWithin))
	defer cancel()
	msg, err := k.b.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+k.stream, body)
	if err != nil {
		return nil, 0, err
	}
	var answer struct {
		Total int `json:"total"`
		State struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, 0, err
	}
	if answer.Error != nil {
		return nil, 0, answer.Error
	}
	return slices.Sorted(maps.Keys(answer.State.Subjects)), answer.Total, nil
}

// keysOf returns the keys that a page of subjects belongs to, once each and if they
// stand after a subject, and which of them have slots.
func (k *Bucket) keysOf(page []string, prefix, after string) (keys []listedKey, slots map[string]bool) {
	slots = make(map[string]bool)
	seen := make(map[string]bool, len(page))
	for _, subject := range page {
		at := strings.TrimPrefix(subject, bucketSubject(k.ns, ""))
		escaped, writer := kvlattice.SplitSlot(at)
		if writer != "" {
			slots[escaped] = true
		}
		if seen[escaped] {
			continue
		}
		seen[escaped] = true
		if key, err := kvlattice.UnescapeKey(escaped); err == nil && strings.HasPrefix(key, prefix) && at > after {
			keys = append(keys, listedKey{key, escaped, at})
		}
	}
	return keys, slots
}

// present returns the keys of those that weren't deleted. Where their values
// are too large to be looked at together, it takes them as they are.
func (k *Bucket) present(ctx context.Context, keys []listedKey, slots map[string]bool) ([]listedKey, error) {
	bases := make([]string, len(keys))
	for i, key := range keys {
		bases[i] = bucketSubject(k.ns, key.escaped)
	}
	msgs, err := k.b.lastMulti(ctx, k.stream, bases, 0)
	if err != nil && !errors.Is(err, errTooMany) {
		return nil, err
	}
	deleted := make(map[string]bool)
	for _, msg := range msgs {
		h := wire.Header(msg.Header)
		if isMarker(msg) {
			deleted[strings.TrimPrefix(wire.First(h, jetstream.SubjectHeader), bucketSubject(k.ns, ""))] = true
		}
	}
	return slices.DeleteFunc(keys, func(key listedKey) bool { return deleted[key.escaped] && !slots[key.escaped] }), nil
}
