package broker

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
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
		for page, err := range k.subjectPages(ctx, k.filter(prefix)) {
			if err != nil {
				yield("", apiError("list keys", k.ns, err))
				return
			}
			keys, slots := k.keysOf(page, prefix)
			for part := range slices.Chunk(keys, keysAtOnce) {
				part, err := k.present(ctx, part, slots)
				if err != nil {
					yield("", apiError("list keys", k.ns, err))
					return
				}
				for _, key := range part {
					if limit > 0 && n == limit || !yield(key, nil) {
						return
					}
					n++
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

// keysOf returns the keys that a page of subjects belongs to, escaped, once
// each, and which of them have slots.
func (k *Bucket) keysOf(page []string, prefix string) (keys []string, slots map[string]bool) {
	slots = make(map[string]bool)
	seen := make(map[string]bool, len(page))
	for _, subject := range page {
		escaped, writer := kvlattice.SplitSlot(strings.TrimPrefix(subject, bucketSubject(k.ns, "")))
		if writer != "" {
			slots[escaped] = true
		}
		key, err := kvlattice.UnescapeKey(escaped)
		if err == nil && strings.HasPrefix(key, prefix) && !seen[escaped] {
			seen[escaped] = true
			keys = append(keys, escaped)
		}
	}
	return keys, slots
}

// present returns the keys of those that weren't deleted. Where their values
// are too large to be looked at together, it takes them as they are.
func (k *Bucket) present(ctx context.Context, escaped []string, slots map[string]bool) ([]string, error) {
	bases := make([]string, len(escaped))
	for i, e := range escaped {
		bases[i] = bucketSubject(k.ns, e)
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
	var keys []string
	for _, e := range escaped {
		if deleted[e] && !slots[e] {
			continue
		}
		if key, err := kvlattice.UnescapeKey(e); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
