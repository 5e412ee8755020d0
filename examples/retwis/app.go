package retwis

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/cloudburst-nats/cloudburst"
)

// A Profile is who somebody is: the argument of register.
type Profile struct {
	User int    `json:"user"`
	Name string `json:"name"`
}

// Following is the argument of follow: from now on User gets what Whom write.
type Following struct {
	User int   `json:"user"`
	Whom []int `json:"whom"`
}

// A Draft is the argument of the DAG post.
type Draft struct {
	User int    `json:"user"`
	Text string `json:"text"`
}

// An Answer is the argument of the DAG reply.
type Answer struct {
	User int    `json:"user"`
	To   string `json:"to"` // id of the post that is answered
	Text string `json:"text"`
}

// A Post is what is kept of a post.
type Post struct {
	ID   string `json:"id"` // of the run that wrote it; later ids are greater
	User int    `json:"user"`
	Text string `json:"text"`
	To   string `json:"to,omitempty"` // of a reply: id of the post it answers
}

// Written is a post on its way to the timelines.
type Written struct {
	ID     string `json:"id"`
	Author int    `json:"author"`
}

// Published is the result of post and reply.
type Published struct {
	ID        string `json:"id"`
	Timelines int    `json:"timelines"` // how many it is on
}

// A Query is the argument of timeline.
type Query struct {
	User  int `json:"user"`
	Limit int `json:"limit,omitempty"` // 0: all
	// Answers asks for Page.Orphans.
	Answers bool `json:"answers,omitempty"`
}

// A Page is a timeline's newest posts, newest first.
type Page struct {
	Posts []Post `json:"posts"`
	// Ahead counts posts that the timeline lists and that can't be read yet.
	Ahead int `json:"ahead,omitempty"`
	// Orphans counts replies among the posts that answer one which can't be read.
	Orphans int `json:"orphans,omitempty"`
}

// Handle adds the functions to a worker. They keep their state in the worker's
// namespace.
func Handle(w *cloudburst.Worker) {
	cloudburst.Handle(w, "register", register, cloudburst.About("adds somebody"))
	cloudburst.Handle(w, "follow", follow, cloudburst.About("has somebody follow others"))
	cloudburst.Handle(w, "write", write, cloudburst.About("stores a post"))
	cloudburst.Handle(w, "answer", answer, cloudburst.About("stores a post that answers another"))
	cloudburst.Handle(w, "fanout", fanout, cloudburst.About("puts a post on the timelines of its author's followers"))
	cloudburst.Handle(w, "timeline", timeline, cloudburst.About("the newest posts of those that somebody follows"))
}

func register(ctx context.Context, s *cloudburst.Session, p Profile) (Profile, error) {
	return p, s.Put(ctx, key("user", p.User), p)
}

func follow(ctx context.Context, s *cloudburst.Session, f Following) (int, error) {
	elements := make([]any, len(f.Whom))
	for i, whom := range f.Whom {
		elements[i] = whom
		if err := s.Set(key("followers", whom)).Add(ctx, f.User); err != nil {
			return 0, err
		}
	}
	return len(f.Whom), s.Set(key("following", f.User)).Add(ctx, elements...)
}

func write(ctx context.Context, s *cloudburst.Session, d Draft) (Written, error) {
	return store(ctx, s, Post{User: d.User, Text: d.Text})
}

func answer(ctx context.Context, s *cloudburst.Session, a Answer) (Written, error) {
	if err := known(ctx, s, postKey(a.To)); err != nil {
		return Written{}, err
	}
	w, err := store(ctx, s, Post{User: a.User, Text: a.Text, To: a.To})
	if err != nil {
		return Written{}, err
	}
	return w, s.Set(repliesKey(a.To)).Add(ctx, w.ID)
}

// store keeps a post under the run's id: a run that is repeated writes the
// same post again, and not another one.
func store(ctx context.Context, s *cloudburst.Session, p Post) (Written, error) {
	if err := known(ctx, s, key("user", p.User)); err != nil {
		return Written{}, err
	}
	p.ID = string(s.Run())
	if err := s.Put(ctx, postKey(p.ID), p); err != nil {
		return Written{}, err
	}
	return Written{ID: p.ID, Author: p.User}, s.Set(key("posts", p.User)).Add(ctx, p.ID)
}

// fanout puts a post on the timelines of the author and of all followers, each
// a key of its own: the session stores them side by side when it ends.
func fanout(ctx context.Context, s *cloudburst.Session, w Written) (Published, error) {
	readers, err := cloudburst.Elements[int](ctx, s.Set(key("followers", w.Author)))
	if err != nil {
		return Published{}, err
	}
	for _, reader := range append(readers, w.Author) {
		if err := s.Set(key("timeline", reader)).Add(ctx, w.ID); err != nil {
			return Published{}, err
		}
	}
	return Published{ID: w.ID, Timelines: len(readers) + 1}, nil
}

func timeline(ctx context.Context, s *cloudburst.Session, q Query) (Page, error) {
	ids, err := cloudburst.Elements[string](ctx, s.Set(key("timeline", q.User)))
	if err != nil {
		return Page{}, err
	}
	page := Page{Posts: []Post{}}
	for i := len(ids) - 1; i >= 0 && (q.Limit <= 0 || len(page.Posts) < q.Limit); i-- {
		p, err := cloudburst.Get[Post](ctx, &s.State, postKey(ids[i]))
		switch {
		case errors.Is(err, cloudburst.ErrUnknown):
			page.Ahead++
		case err != nil:
			return Page{}, err
		default:
			page.Posts = append(page.Posts, p)
		}
	}
	if !q.Answers {
		return page, nil
	}
	for _, p := range page.Posts {
		if p.To == "" {
			continue
		}
		_, found, err := s.Get(ctx, postKey(p.To))
		if err != nil {
			return Page{}, err
		}
		if !found {
			page.Orphans++
		}
	}
	return page, nil
}

// known fails if there is nothing under a key. It may be on its way to this
// worker, so the error isn't permanent: the call is tried again.
func known(ctx context.Context, s *cloudburst.Session, key string) error {
	_, found, err := s.Get(ctx, key)
	if err == nil && !found {
		err = fmt.Errorf("there is no %s", key)
	}
	return err
}

func key(kind string, user int) string { return kind + ":" + strconv.Itoa(user) }

func postKey(id string) string { return "post:" + id }

func repliesKey(id string) string { return "replies:" + id }
