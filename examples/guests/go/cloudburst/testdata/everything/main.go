// A guest that tries everything of the SDK, and fails where it isn't as it should be.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/cloudburst-nats/cloudburst/examples/guests/go/cloudburst"
)

func main() {
	call()
	registers()
	lattices()
	functions()
	messages()
	cloudburst.Must(cloudburst.Return("all is well"))
}

// same fails if what is there isn't what is wanted.
func same(what string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		fmt.Fprintf(os.Stderr, "%s: got %v, want %v\n", what, got, want)
		os.Exit(1)
	}
}

func call() {
	var args struct{ Page string }
	cloudburst.Must(cloudburst.Args(&args))
	same("args", args.Page, "home")
	cloudburst.Must(cloudburst.Log("page %s", args.Page))
	info, err := cloudburst.Info()
	cloudburst.Must(err)
	same("info", info, cloudburst.CallInfo{Run: "run-1", Function: "everything", Attempt: 1, Namespace: "default", ID: "run-1"})
}

func registers() {
	var n int
	found, err := cloudburst.Get("n", &n)
	cloudburst.Must(err)
	same("a key that isn't there", found, false)
	cloudburst.Must(cloudburst.Put("n", 7))
	found, err = cloudburst.In("default").Get("n", &n)
	cloudburst.Must(err)
	same("a key that is", []any{found, n}, []any{true, 7})
	versions, err := cloudburst.In("").Versions("n")
	cloudburst.Must(err)
	same("versions", versions, []cloudburst.Value{{Body: []byte("7")}})
	cloudburst.Must(cloudburst.Delete("n"))
	found, err = cloudburst.Get("n", nil)
	cloudburst.Must(err)
	same("one that was deleted", found, false)

	raw := cloudburst.Value{Type: "application/octet-stream", Body: bytes.Repeat([]byte{0xff, 0}, 1<<20)}
	cloudburst.Must(cloudburst.In("other").Put("raw", raw))
	var got cloudburst.Value
	_, err = cloudburst.In("other").Get("raw", &got)
	cloudburst.Must(err)
	same("bytes", got.Type == raw.Type && bytes.Equal(got.Body, raw.Body), true)
	_, err = cloudburst.In("other").Get("raw", &n)
	same("bytes as JSON", err != nil, true)
}

func lattices() {
	cloudburst.Must(cloudburst.Update("c", "counter", 3))
	cloudburst.Must(cloudburst.Update("c", "counter", -1))
	total, err := cloudburst.Counter("c")
	cloudburst.Must(err)
	same("counter", total, int64(2))

	var elements []string
	cloudburst.Must(cloudburst.Update("s", "set", []string{"b", "a"}))
	_, err = cloudburst.Read("s", "set", &elements)
	cloudburst.Must(err)
	same("set", elements, []string{"a", "b"})
	cloudburst.Must(cloudburst.Update("o", "orset", cloudburst.OR{Add: []any{"x", "y"}}))
	cloudburst.Must(cloudburst.Update("o", "orset", cloudburst.OR{Remove: []any{"x"}}))
	_, err = cloudburst.Read("o", "orset", &elements)
	cloudburst.Must(err)
	same("orset", elements, []string{"y"})

	var most int
	found, err := cloudburst.Read("m", "max", &most)
	cloudburst.Must(err)
	same("max that isn't there", found, false)
	cloudburst.Must(cloudburst.Update("m", "max", 5))
	cloudburst.Must(cloudburst.Update("m", "max", 4))
	_, err = cloudburst.Read("m", "max", &most)
	cloudburst.Must(err)
	same("max", most, 5)

	cloudburst.Must(cloudburst.Update("z", "zset", cloudburst.Ranking{Put: []cloudburst.Scored{{Member: "b", Score: 2}, {Member: "a", Score: 1}, {Member: "c"}}}))
	cloudburst.Must(cloudburst.Update("z", "zset", cloudburst.Ranking{Remove: []string{"c"}}))
	var ranks []cloudburst.Scored
	_, err = cloudburst.Read("z", "zset", &ranks)
	cloudburst.Must(err)
	same("zset", ranks, []cloudburst.Scored{{Member: "a", Score: 1}, {Member: "b", Score: 2}})
	cloudburst.Must(cloudburst.Update("p", "priority", cloudburst.Offer{Priority: 2, Value: "late"}))
	cloudburst.Must(cloudburst.Update("p", "priority", cloudburst.Offer{Priority: 1, Value: "first"}))
	var best cloudburst.Offer
	_, err = cloudburst.Read("p", "priority", &best)
	cloudburst.Must(err)
	same("priority", best, cloudburst.Offer{Priority: 1, Value: "first"})

	user := cloudburst.MapOf("user")
	cloudburst.Must(user.Put("name", "Ada"))
	cloudburst.Must(user.Map("seen").Map("on").Update("days", "counter", 2))
	cloudburst.Must(user.Put("gone", 1))
	cloudburst.Must(user.Delete("gone"))
	var name string
	_, err = user.Get("name", &name)
	cloudburst.Must(err)
	same("field", name, "Ada")
	_, err = user.Map("seen").Map("on").Read("days", "counter", &most)
	cloudburst.Must(err)
	same("counter in a map in a map", most, 2)
	_, err = cloudburst.Read("user", "map", &elements)
	cloudburst.Must(err)
	same("map", elements, []string{"name", "seen"})

	refused := new(cloudburst.Error)
	same("counter of a set", errors.As(cloudburst.Update("s", "counter", 1), &refused), true)
	same("its kind", refused.Kind, "lattice kinds differ")
}

func functions() {
	var got []int
	cloudburst.Must(cloudburst.Call("echo", []int{1, 2}, &got))
	same("call", got, []int{1, 2})
	run, err := cloudburst.Start("echo", nil)
	cloudburst.Must(err)
	var nothing cloudburst.Value
	cloudburst.Must(run.Await(&nothing))
	same("call without an argument", len(nothing.Body), 0)
	for range 2 {
		run, err = cloudburst.StartAs("mine", "echo", 1)
		cloudburst.Must(err)
		same("a run's own id", run, cloudburst.Run("mine"))
	}
	_, err = cloudburst.Start("missing", 1)
	refused := new(cloudburst.Error)
	same("a function that isn't there", errors.As(err, &refused), true)
	same("its kind", refused.Kind, "unknown")
}

func messages() {
	info, err := cloudburst.Info()
	cloudburst.Must(err)
	same("id", info.ID, "run-1")
	_, ok, err := cloudburst.Recv(0, nil)
	cloudburst.Must(err)
	same("a message before any was sent", ok, false)
	cloudburst.Must(cloudburst.Send(info.ID, "one"))
	cloudburst.Must(cloudburst.Send(info.ID, 2))
	var text string
	from, ok, err := cloudburst.Recv(time.Second, &text)
	cloudburst.Must(err)
	same("the first message", []any{from, ok, text}, []any{info.ID, true, "one"})
	var number int
	_, _, err = cloudburst.Recv(time.Second, &number)
	cloudburst.Must(err)
	same("the second", number, 2)
	refused := new(cloudburst.Error)
	same("a message to nobody", errors.As(cloudburst.Send("", 1), &refused), true)
}
