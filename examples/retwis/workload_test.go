package retwis

import (
	"reflect"
	"testing"
)

func TestMix(t *testing.T) {
	for _, size := range []struct{ users, posts, reads int }{{10, 0, 5}, {10, 1, 0}, {1, 2, 2}, {20, 101, 404}, {1000, 5000, 20000}} {
		for seed := range uint64(5) {
			ops := mix(Config{Seed: seed}.rng(2), size.users, size.posts, size.reads)
			n := make(map[kind]int)
			for i, o := range ops {
				n[o.kind]++
				if o.user < 0 || o.user >= size.users {
					t.Fatalf("%v: op %d is by user %d", size, i, o.user)
				}
				if o.kind == kindReply && (o.parent >= i || ops[o.parent].kind == kindTimeline) {
					t.Fatalf("%v: op %d replies to op %d, a %s", size, i, o.parent, ops[o.parent].kind)
				}
				if (o.kind == kindTimeline) != (o.text == "") {
					t.Fatalf("%v: op %d, a %s, has text %q", size, i, o.kind, o.text)
				}
			}
			want := map[kind]int{kindPost: size.posts - size.posts/2, kindReply: size.posts / 2, kindTimeline: size.reads}
			for k, w := range want {
				if n[k] != w {
					t.Errorf("%v: %d of %s, want %d", size, n[k], k, w)
				}
			}
		}
	}
}

func TestMixIsShuffled(t *testing.T) {
	ops := mix(Config{}.rng(2), 100, 1000, 4000)
	var writes int // in the first half
	for _, o := range ops[:len(ops)/2] {
		if o.kind != kindTimeline {
			writes++
		}
	}
	if writes < 430 || writes > 570 { // five standard deviations of about 14
		t.Errorf("%d of 1000 writes are in the first half", writes)
	}
}

func TestMixBySeed(t *testing.T) {
	of := func(seed uint64) []op { return mix(Config{Seed: seed}.rng(2), 100, 50, 200) }
	if !reflect.DeepEqual(of(5), of(5)) {
		t.Error("the same seed made two mixes")
	}
	if reflect.DeepEqual(of(5), of(6)) {
		t.Error("two seeds made the same mix")
	}
}
