package console

import (
	"errors"
	"testing"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// Every kind is shown as what it means, and those that one value makes sense of
// are written as well.
func TestKinds(t *testing.T) {
	u := newUser(t)
	u.does("kv", "put", "record", "9.58", "--kind", "min")
	u.does("kv", "put", "record", "9.63", "--kind", "min")
	u.sees(u.does("kv", "get", "record"), "9.58\n")
	u.does("kv", "put", "top", "3", "--kind", "max")
	u.does("kv", "put", "top", "7", "--kind", "max")
	u.sees(u.does("kv", "get", "top", "-o", "json"), `"kind": "max"`, `"value": 7`)
	u.does("kv", "put", "tags", "b", "--kind", "set")
	u.does("kv", "put", "tags", "a", "--kind", "set")
	u.sees(u.does("kv", "get", "tags"), `["a","b"]`)
	u.sees(u.gets(cli.ExitUsage, "kv", "put", "tags", "a", "--kind", "sett"), "lww, max, min, set")
	u.gets(cli.ExitRefused, "kv", "put", "tags", "a")
	u.gets(cli.ExitUsage, "kv", "put", "top", "[1]", "--kind", "max")
	client, err := cloudburst.Connect(t.Context(), u.env["NATS_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, state := t.Context(), client.State()
	if err := errors.Join(
		state.Priority("first").Put(ctx, -2, "a"), state.ORSet("bag").Add(ctx, "x"), state.OrderedSet("scores").Put(ctx, "ann", 3),
		state.Map("user").Put(ctx, "name", "Ada"), state.Map("user").Counter("likes").Add(ctx, 1),
	); err != nil {
		t.Fatal(err)
	}
	u.sees(u.does("kv", "get", "first", "-o", "json"), `"kind": "priority"`, `"value": "a"`, `"priority": -2`)
	u.sees(u.does("kv", "get", "user"), `{"likes":1,"name":"Ada"}`)
	u.sees(u.does("kv", "get", "user", "-o", "json"), `"kind": "map"`)
	u.sees(u.does("kv", "get", "scores", "-o", "json"), `"kind": "zset"`, `"member": "ann"`)
	u.sees(u.does("kv", "get", "bag"), `["x"]`)
	u.sees(u.does("kv", "--help"), "gcounter", "zset", "priority")
}
