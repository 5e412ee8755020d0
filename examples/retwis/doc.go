// Package retwis is a Twitter clone, the stateful application of the paper
// (Retwis, section 6.3.2), and a tutorial of how to write one with Cloudburst.
// Run drives it under load and then proves that nothing was lost.
//
// # State
//
// First decide what is kept, and as which lattice: values that merge let any
// number of workers write one key at once, without asking each other.
//
//	user:<u>       register  who somebody is
//	following:<u>  set       whom they follow
//	followers:<u>  set       who follows them
//	posts:<u>      set       ids of what they wrote
//	timeline:<u>   set       ids of what they and those they follow wrote
//	post:<id>      register  a post, which may answer another
//	replies:<id>   set       ids of the answers to a post
//
// A timeline is the interesting one. A thousand people may post to it in the
// same moment; a list would have them wait for each other, a set takes all of
// them in any order. Nobody sorts it either: ids grow with time, so the newest
// posts have the greatest ids.
//
// # Functions
//
// A function is a Go func with a context, the session of its run, and an
// argument that is decoded from JSON. It reads and writes through the session
// (app.go):
//
//	func follow(ctx context.Context, s *cloudburst.Session, f Following) (int, error) {
//		...
//		if err := s.Set(key("followers", whom)).Add(ctx, f.User); err != nil {
//
// What it writes is stored when it returns, before its caller hears of it, and
// not at all if it returns an error. A call whose worker dies runs again, so
// ask of each function what its second run does. Adding to a set twice adds
// once. A post must not get a second id: it takes the run's, which stays the
// same however often the call is handed out.
//
// # DAGs
//
// To post is to write the post and then to hand it on to all followers. These
// are two functions, because replies are handed on in the same way, and a DAG
// joins them (dags.go):
//
//	post:   write  -> fanout
//	reply:  answer -> fanout
//
// A DAG is called as a function is. A worker that hosts both functions runs
// them in one go, without a hop between.
//
// # A worker, and a call
//
//	w := cloudburst.NewWorker(client, cloudburst.Pool("retwis"), cloudburst.Namespace("retwis"))
//	retwis.Handle(w)
//	go w.Serve(ctx)
//	<-w.Ready()
//	err := retwis.Apply(ctx, client) // the DAGs
//	p, err := cloudburst.Call[retwis.Published](ctx, client, "post", retwis.Draft{User: 7, Text: "hello"})
//	page, err := cloudburst.Call[retwis.Page](ctx, client, "timeline", retwis.Query{User: 7, Limit: 10})
//
// # What to expect
//
// State is at level lww: each key is right by itself. A reader may catch a
// timeline that lists a post which can't be read yet, since the keys of a run
// become visible one by one; timeline leaves such a post out and counts it.
// Once a post is acknowledged it is on every timeline that it belongs to, and
// on each once: Run checks that against a sequential model (model.go), fed with
// what was acknowledged and nothing else.
package retwis
