// Counter counts the visits of a page, whose name is its argument, and returns how
// many there were. All calls share the count; one that is run again, because a worker
// died, counts once.
package main

import "github.com/cloudburst-nats/cloudburst/examples/guests/go/cloudburst"

func main() {
	var page string
	cloudburst.Must(cloudburst.Args(&page))
	key := "visits:" + page
	cloudburst.Must(cloudburst.Update(key, "counter", 1))
	total, err := cloudburst.Counter(key)
	cloudburst.Must(err)
	cloudburst.Must(cloudburst.Return(total))
}
