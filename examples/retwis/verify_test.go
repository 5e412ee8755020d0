package retwis

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
)

// memory is a state in memory, for the check to read.
type memory struct {
	sets  map[string][]string
	posts map[string]Post
	users []Profile
}

func (s memory) Set(_ context.Context, key string) ([]string, error) { return s.sets[key], nil }

func (s memory) Load(_ context.Context, key string, into any) (bool, error) {
	switch into := into.(type) {
	case *Post:
		p, found := s.posts[strings.TrimPrefix(key, "post:")]
		*into = p
		return found, nil
	case *Profile:
		for _, p := range s.users {
			if key == "user:"+itoa(p.User) {
				*into = p
				return true, nil
			}
		}
	}
	return false, nil
}

func itoa(n int) string { return strings.TrimPrefix(key("", n), ":") }

// stateOf returns a state that agrees with a model.
func stateOf(m *model) memory {
	s := memory{sets: make(map[string][]string), posts: maps.Clone(m.posts), users: m.profiles}
	for key, elements := range m.sets {
		s.sets[key] = slices.Sorted(maps.Keys(elements))
	}
	return s
}

// friends is a clone of five: ann (0) has posted, cid (2) has answered, and
// the outcome of a post by bob (1) is not known.
func friends(t *testing.T) *model {
	t.Helper()
	g, err := load("testdata/friends.txt")
	if err != nil {
		t.Fatal(err)
	}
	ops := []op{
		{kind: kindPost, user: 0, text: "one"},
		{kind: kindTimeline, user: 4},
		{kind: kindReply, user: 2, text: "two", parent: 0},
		{kind: kindPost, user: 1, text: "three"},
		{kind: kindReply, user: 1, text: "never called", parent: 3},
	}
	return replay(g, ops, []string{"p1", "", "p2", "p3", ""}, []bool{true, false, true, false, false})
}

func TestReplay(t *testing.T) {
	m := friends(t)
	want := map[string]string{
		"following:0": "1 3", "following:1": "0 2", "following:2": "1", "following:3": "0", "following:4": "",
		"followers:0": "1 3", "followers:1": "0 2", "followers:2": "1", "followers:3": "0", "followers:4": "",
		"posts:0": `"p1"`, "posts:1": "", "posts:2": `"p2"`, "posts:3": "", "posts:4": "",
		"timeline:0": `"p1"`, "timeline:1": `"p1" "p2"`, "timeline:2": `"p2"`, "timeline:3": `"p1"`, "timeline:4": "",
		"replies:p1": `"p2"`, "replies:p2": "",
	}
	got := make(map[string]string)
	for key, elements := range stateOf(m).sets {
		got[key] = strings.Join(elements, " ")
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if p := (Post{ID: "p2", User: 2, Text: "two", To: "p1"}); m.posts["p2"] != p || len(m.posts) != 2 {
		t.Errorf("posts are %v", m.posts)
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		change func(memory)
		want   []string
	}{
		{"as it should be", func(memory) {}, nil},
		{"a doubtful post is anywhere", func(s memory) {
			s.posts["p3"] = Post{ID: "p3"}
			s.sets["timeline:2"] = append(s.sets["timeline:2"], `"p3"`)
		}, nil},
		{"one is lost", func(s memory) { s.sets["timeline:1"] = []string{`"p2"`} }, []string{`timeline:1 lacks "p1"`}},
		{"all are lost", func(s memory) { delete(s.sets, "timeline:1") }, []string{`timeline:1 lacks "p1"`, `timeline:1 lacks "p2"`}},
		{"one is extra", func(s memory) { s.sets["timeline:4"] = []string{`"p1"`} }, []string{`timeline:4 has "p1", which does not belong there`}},
		{"one is there twice", func(s memory) { s.sets["timeline:3"] = []string{`"p1"`, `"p1"`} }, []string{`timeline:3 has "p1" twice`}},
		{"a reply is lost", func(s memory) { delete(s.sets, "replies:p1") }, []string{`replies:p1 lacks "p2"`}},
		{"a follow is lost", func(s memory) { s.sets["followers:0"] = []string{"1"} }, []string{`followers:0 lacks 3`}},
		{"a post is lost", func(s memory) { delete(s.posts, "p1") }, []string{`post:p1 is not there`}},
		{"a text is another", func(s memory) { s.posts["p1"] = Post{ID: "p1", Text: "won"} }, []string{`post:p1 is {ID:p1 User:0 Text:won To:}, not {ID:p1 User:0 Text:one To:}`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := friends(t)
			s := stateOf(m)
			test.change(s)
			v, err := check(t.Context(), m, s, 4, func() {})
			if err != nil || !slices.Equal(v.Wrong, test.want) {
				t.Errorf("got %q, %v; want %q", v.Wrong, err, test.want)
			}
			v.Wrong = nil
			if want := (verdict{Posts: 2, Timelines: 5, Entries: 5, Replies: 1, Follows: 6}); v.Posts != want.Posts ||
				v.Timelines != want.Timelines || v.Entries != want.Entries || v.Replies != want.Replies || v.Follows != want.Follows {
				t.Errorf("checked %+v, want %+v", v, want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	g, err := load("testdata/friends.txt")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		page []Post
		want string // part of the error
	}{
		{nil, ""},
		{[]Post{{ID: "p3", User: 0}, {ID: "p2", User: 2}, {ID: "p1", User: 1}}, ""},
		{[]Post{{ID: "p1", User: 0}, {ID: "p2", User: 2}}, `"p1" before "p2"`},
		{[]Post{{ID: "p1", User: 0}, {ID: "p1", User: 0}}, `"p1" before "p1"`},
		{[]Post{{ID: "p1", User: 3}}, "doesn't follow"},
		{make([]Post, 4), "over 3"},
	}
	for _, test := range tests {
		err := g.judge(Query{User: 1, Limit: 3}, Page{Posts: test.page})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("judge(%+v) = %v, want %q", test.page, err, test.want)
		}
	}
}
