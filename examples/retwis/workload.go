package retwis

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// A kind is what a call is for, as the report lists it. It is the name of the
// function or DAG that is called.
type kind string

const (
	kindRegister kind = "register"
	kindFollow   kind = "follow"
	kindPost     kind = "post"
	kindReply    kind = "reply"
	kindTimeline kind = "timeline"
)

// An op is one step of the mix.
type op struct {
	kind   kind
	user   int
	text   string // of posts and replies
	parent int    // of a reply: index of the op that wrote what it answers
}

// mix returns posts, half of them replies to earlier ones, and reads of
// timelines, in random order. Everybody writes and reads equally often.
func mix(rng *rand.Rand, users, posts, reads int) []op {
	ops := make([]op, posts+reads)
	for i := range ops {
		switch {
		case i < posts/2:
			ops[i].kind = kindReply
		case i < posts:
			ops[i].kind = kindPost
		default:
			ops[i].kind = kindTimeline
		}
	}
	rng.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	postFirst(ops)
	var written []int
	for i := range ops {
		o := &ops[i]
		o.user = rng.IntN(users)
		if o.kind == kindTimeline {
			continue
		}
		if o.kind == kindReply {
			o.parent = written[rng.IntN(len(written))]
		}
		o.text = sentence(rng)
		written = append(written, i)
	}
	return ops
}

// postFirst swaps the first post to before the first reply, which needs
// something to answer.
func postFirst(ops []op) {
	first := func(k kind) int { return slices.IndexFunc(ops, func(o op) bool { return o.kind == k }) }
	if post, reply := first(kindPost), first(kindReply); 0 <= reply && reply < post {
		ops[post], ops[reply] = ops[reply], ops[post]
	}
}

const words = "a and are at by clouds every for from in it keys lattices like merge messages " +
	"never of on or over rain remembers rivers state streams sun the they to under water we what wind with"

// sentence returns five to twenty words.
func sentence(rng *rand.Rand) string {
	all := strings.Fields(words)
	text := make([]string, 5+rng.IntN(16))
	for i := range text {
		text[i] = all[rng.IntN(len(all))]
	}
	return strings.Join(text, " ")
}
