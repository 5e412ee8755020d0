package cloudburst_test

import (
	"context"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
)

// What somebody purges or deletes of a namespace is gone from the workers' caches too,
// and what is left stays, counted and written on.
func TestCachesDropWhatWasPurged(t *testing.T) {
	c := newCounted(t)
	request := func(subject, body string) {
		t.Helper()
		if _, err := c.conn().Request(subject, []byte(body), 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(key, left string, n int64) {
		t.Helper()
		for began := time.Now(); ; {
			got, err := cloudburst.Call[int64](t.Context(), c.client, "get", key)
			if err == nil && got == 0 {
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("%s counts %d, %v a minute after it was purged", key, got, err)
			}
		}
		if left != "" {
			c.want(left, n)
		}
	}
	c.addAs("a", "1", 20)
	c.addAs("b", "1", 20)
	request("$JS.API.STREAM.PURGE.KV_state", `{"filter":"$KV.state.a.>"}`)
	request("$JS.API.STREAM.PURGE.KV_state", `{"filter":"$KV.state.a"}`)
	gone("a", "b", 20)
	c.addAs("a", "2", 20)
	c.addAs("b", "2", 20)
	c.want("a", 20)
	c.want("b", 40)
	request("$JS.API.STREAM.PURGE.KV_state", "")
	gone("a", "", 0)
	gone("b", "", 0)
	c.addAs("a", "3", 20)
	c.want("a", 20)
	c.delete("STREAM", "KV_state")
	c.wantRestored("KV_state")
	gone("a", "", 0)
	c.addAs("a", "4", 20)
	c.want("a", 20)
	if v, found, err := c.client.State().Get(t.Context(), "a"); err != nil || !found {
		t.Errorf("stored is %s, %v, %v", v.Body, found, err)
	}
}

// Looking for a key of a namespace that isn't there makes none.
func TestAReferenceMakesNoNamespace(t *testing.T) {
	client := platform(t)
	serve(t, client, "p", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "same", func(_ context.Context, _ *cloudburst.Session, v cloudburst.Value) (cloudburst.Value, error) {
			return v, nil
		})
	})
	ref := cloudburst.Value{Body: []byte(`{"$ref":"k","ns":"nowhere"}`)}
	_, err := cloudburst.Call[any](t.Context(), client, "same", ref)
	if err == nil {
		t.Error("it found a key of no namespace")
	}
	all, err := client.Broker().Namespaces(t.Context())
	if err != nil || len(all) != 1 || all[0] != "state" {
		t.Errorf("namespaces: %v, %v; want state", all, err)
	}
}
