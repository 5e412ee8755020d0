package retwis

import (
	"maps"
	"slices"
	"strconv"
)

// A model is the clone as one program without concurrency or failure would
// keep it: the reference that the state is checked against.
type model struct {
	followers [][]int
	sets      map[string]map[string]bool // what each set key holds: elements as JSON
	profiles  []Profile
	posts     map[string]Post
	// doubtful are posts whose calls were not acknowledged: they may be
	// anywhere or nowhere.
	doubtful map[string]bool
}

// newModel returns the model after everybody has registered and followed.
func newModel(g *socialGraph) *model {
	m := &model{
		followers: make([][]int, len(g.names)), sets: make(map[string]map[string]bool),
		posts: make(map[string]Post), doubtful: make(map[string]bool),
	}
	for u, name := range g.names {
		m.profiles = append(m.profiles, Profile{User: u, Name: name})
		// Keys that must stay empty are checked, too.
		for _, kind := range []string{"following", "followers", "posts", "timeline"} {
			m.sets[key(kind, u)] = make(map[string]bool)
		}
	}
	for u, whom := range g.follows {
		for _, v := range whom {
			m.followers[v] = append(m.followers[v], u)
			m.sets[key("following", u)][strconv.Itoa(v)] = true
			m.sets[key("followers", v)][strconv.Itoa(u)] = true
		}
	}
	return m
}

// post adds a post, which may be a reply.
func (m *model) post(p Post) {
	m.posts[p.ID] = p
	element := quoted(p.ID)
	m.sets[repliesKey(p.ID)] = make(map[string]bool)
	m.sets[key("posts", p.User)][element] = true
	m.sets[key("timeline", p.User)][element] = true
	for _, u := range m.followers[p.User] {
		m.sets[key("timeline", u)][element] = true
	}
	if p.To != "" {
		m.sets[repliesKey(p.To)][element] = true
	}
}

// doubt notes a post whose call was not acknowledged.
func (m *model) doubt(id string) { m.doubtful[quoted(id)] = true }

// compare returns what is wrong with the elements of a set key, in words.
func (m *model) compare(key string, elements []string) (wrong []string) {
	want := m.sets[key]
	seen := make(map[string]bool, len(elements))
	for _, e := range elements {
		switch {
		case seen[e]:
			wrong = append(wrong, key+" has "+e+" twice")
		case !want[e] && !m.doubtful[e]:
			wrong = append(wrong, key+" has "+e+", which does not belong there")
		}
		seen[e] = true
	}
	for _, e := range slices.Sorted(maps.Keys(want)) {
		if !seen[e] {
			wrong = append(wrong, key+" lacks "+e)
		}
	}
	return wrong
}

// replay returns the model after what was acknowledged of the mix, in order.
// runs are the ids of the posts and replies, acked says which came back.
func replay(g *socialGraph, ops []op, runs []string, acked []bool) *model {
	m := newModel(g)
	for i, o := range ops {
		switch {
		case o.kind == kindTimeline || runs[i] == "": // a read, or never called
		case !acked[i]:
			m.doubt(runs[i])
		default:
			p := Post{ID: runs[i], User: o.user, Text: o.text}
			if o.kind == kindReply {
				p.To = runs[o.parent]
			}
			m.post(p)
		}
	}
	return m
}

// quoted returns an id as it stands in a set. Ids need no escapes.
func quoted(id string) string { return `"` + id + `"` }
