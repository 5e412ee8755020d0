// Package paper repeats the experiments of the Cloudburst paper (PVLDB 13(11), 2020)
// that no other benchmark covers, each beside what NATS or plain Go takes for the same
// work in the same run, and beside what the paper saw on its own machines:
//
//	composition  square(increment(x)), composed in six ways         (section 6.1.1)
//	gossip       an average by messages, and gathered from state    (section 6.1.3)
//	prediction   resize, model, combine: the price of a DAG's steps (section 6.3.1)
//	retwis       a Twitter clone on more and more workers           (section 6.3.2)
//
// A site is a server in this process, over loopback, and workers in processes of
// their own, which Serve plays. Ways to do the same take turns in rounds, so that
// whatever else the machine does hits all alike; every outcome is checked, and a wrong
// one ends the experiment with an error.
//
// What the paper saw are figures of its machines: they show the shape, and are no
// measure of this one.
package paper
