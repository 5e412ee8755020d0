package broker

import (
	"slices"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestKeys(t *testing.T) {
	k := openBucket(t)
	for _, key := range []string{"a.1", "a.2", "a.", "a", "a..b", "ab", "b c", "gone", "folded"} {
		k.base(t, key, "v", 0)
	}
	k.slot(t, "a.1", "w", "v")
	k.slot(t, "only.slots", "w1", "v")
	k.slot(t, "only.slots", "w2", "v")
	kv, err := k.b.js.KeyValue(t.Context(), "state")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"gone", "folded"} {
		if err := kv.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	k.slot(t, "folded", "w", "v")
	for _, tt := range []struct {
		prefix string
		limit  int
		want   []string
	}{
		{"", 0, []string{"a", "a.", "a..b", "a.1", "a.2", "ab", "b c", "folded", "only.slots"}},
		{"a", 0, []string{"a", "a.", "a..b", "a.1", "a.2", "ab"}},
		{"a.", 0, []string{"a.", "a..b", "a.1", "a.2"}},
		{"a..", 0, []string{"a..b"}},
		{"a.2", 0, []string{"a.2"}},
		{"only.s", 0, []string{"only.slots"}},
		{"b ", 0, []string{"b c"}},
		{"none", 0, nil},
		{"none.x", 0, nil},
	} {
		var got []string
		for key, err := range k.Keys(t.Context(), tt.prefix, tt.limit) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, key)
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("Keys(%q) = %q, want %q", tt.prefix, got, tt.want)
		}
	}
	n := 0
	for _, err := range k.Keys(t.Context(), "", 3) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("3 keys at most: got %d", n)
	}
}

// A key that has only slots stands after one whose name goes on with '-', so that
// the keys' own order would list it for ever, or never.
func TestKeysInPages(t *testing.T) {
	k := openBucket(t)
	for _, key := range []string{"a-", "a-b", "b", "b.c", "b c"} {
		k.base(t, key, "v", 0)
	}
	k.slot(t, "a", "w1", "v")
	k.slot(t, "a", "w2", "v")
	k.slot(t, "b", "w1", "v")
	for limit := 1; limit <= 7; limit++ {
		var got []string
		for after, pages := "", 0; ; pages++ {
			keys, next, err := k.KeysPage(t.Context(), "", after, limit)
			if err != nil || len(keys) > limit || pages > 6 {
				t.Fatalf("page %d of %d keys: %q, %v", pages, limit, keys, err)
			}
			if got = append(got, keys...); next == "" {
				break
			}
			after = next
		}
		slices.Sort(got)
		if want := []string{"a", "a-", "a-b", "b", "b c", "b.c"}; !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %q, want %q", limit, got, want)
		}
	}
	if keys, next, err := k.KeysPage(t.Context(), "b", "", 2); err != nil || len(keys) != 2 || next == "" {
		t.Errorf("with a prefix: %q, %q, %v", keys, next, err)
	}
	if _, _, err := k.KeysPage(t.Context(), "", "a b", 1); wire.KindOf(err) != wire.KindBadArgument {
		t.Errorf("after what no page has returned: %v", err)
	}
}
