package cloudburst_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
)

// A program's own reads include what its token has seen, and its token sees what they return.
func TestReadsIncludeWhatTheTokenHasSeen(t *testing.T) {
	client := platform(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wrote := cloudburst.NewToken()
	if err := client.With(cloudburst.WithToken(wrote)).State().Put(ctx, "k", "old"); err != nil {
		t.Fatal(err)
	}
	var past struct {
		After map[string]uint64 `json:"after"`
	}
	if err := json.Unmarshal([]byte(wrote.String()), &past); err != nil || past.After["state"] == 0 {
		t.Fatalf("the token is %s, %v", wrote, err)
	}
	// The token of somebody who has seen the next write, which isn't there yet.
	past.After["state"]++
	text, err := json.Marshal(past)
	if err != nil {
		t.Fatal(err)
	}
	type read struct {
		value string
		err   error
	}
	reads := map[string]func(*cloudburst.State) (string, error){
		"Get": func(s *cloudburst.State) (value string, err error) {
			v, _, err := s.Get(ctx, "k")
			if err == nil {
				err = v.Decode(&value)
			}
			return value, err
		},
		"GetAll": func(s *cloudburst.State) (value string, err error) {
			all, _, err := s.GetAll(ctx, "k")
			if err == nil {
				err = all[0].Decode(&value)
			}
			return value, err
		},
	}
	got := make(map[string]chan read)
	for name, do := range reads {
		token, err := cloudburst.ParseToken(string(text))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = make(chan read, 1)
		go func() {
			value, err := do(client.With(cloudburst.WithToken(token)).State())
			got[name] <- read{value, err}
		}()
	}
	select { // without the token's revision they have returned by now
	case r := <-got["Get"]:
		t.Fatalf("Get returns %q, %v before the write", r.value, r.err)
	case r := <-got["GetAll"]:
		t.Fatalf("GetAll returns %q, %v before the write", r.value, r.err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := client.State().Put(ctx, "k", "new"); err != nil {
		t.Fatal(err)
	}
	for name, c := range got {
		if r := <-c; r.value != "new" || r.err != nil {
			t.Errorf("%s returns %q, %v; want what was written last", name, r.value, r.err)
		}
	}
}
