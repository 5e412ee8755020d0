package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A kind is one thing that goes wrong. do breaks something and mends it again; it
// returns what was broken, in words.
type kind struct {
	name  string
	about string
	do    func(s *site, ctx context.Context, r *rand.Rand) (victim string, err error)
}

var kinds = []kind{
	{"worker-kill", "a worker dies (kill -9) and is started again", (*site).killWorker},
	{"worker-stop", "a worker is stopped (SIGSTOP) for longer than its calls wait, and goes on as if nothing had been", (*site).stopWorker},
	{"worker-cut", "a worker's connections break, and it can't connect", (*site).cutWorker},
	{"worker-restart", "a worker is told to end, and started again", (*site).restartWorker},
	{"worker-clock", "a worker is started again with a clock that is 20 s off", (*site).skewWorker},
	{"client-cut", "the callers' connection breaks, and they can't connect", (*site).cutClient},
	{"node-kill", "a server dies (kill -9) and is started again", (*site).killNode},
	{"node-stop", "a server is stopped (SIGSTOP), and goes on", (*site).stopNode},
	{"node-cut", "a server is cut off from the others and from everybody", (*site).cutNode},
	{"node-apart", "a server is cut off from the other servers, and its clients stay with it", (*site).partNode},
	{"node-restart", "a server is told to end, and started again", (*site).restartNode},
	{"node-slow", "a server runs for a fifth of the time only, as with a slow disk", (*site).slowNode},
	{"quorum", "two of the three servers die at once: nothing can be stored meanwhile", (*site).loseQuorum},
	{"disk-full", "the servers' storage is full, for whatever has no room reserved", (*site).fillDisk},
}

func (s *site) anyWorker(r *rand.Rand) (int, *worker) {
	i := r.IntN(len(s.workers))
	return i, s.workers[i]
}

func workerName(i int) string { return fmt.Sprint("worker ", i+1) }
func nodeName(i int) string   { return fmt.Sprint("n", i+1) }

func (s *site) killWorker(ctx context.Context, r *rand.Rand) (string, error) {
	i, w := s.anyWorker(r)
	return workerName(i), errors.Join(w.process.Kill(), s.startWorker(ctx, i, 0))
}

func (s *site) stopWorker(ctx context.Context, r *rand.Rand) (string, error) {
	i, w := s.anyWorker(r)
	return workerName(i), errors.Join(
		w.process.Signal(syscall.SIGSTOP), pause(ctx, s.cfg.For), w.process.Signal(syscall.SIGCONT))
}

func (s *site) cutWorker(ctx context.Context, r *rand.Rand) (string, error) {
	i, w := s.anyWorker(r)
	return workerName(i), s.cut(ctx, w.links[:])
}

func (s *site) cut(ctx context.Context, links []*link) error {
	for _, l := range links {
		l.cut()
	}
	err := pause(ctx, s.cfg.For)
	for _, l := range links {
		l.heal()
	}
	return err
}

func (s *site) restartWorker(ctx context.Context, r *rand.Rand) (string, error) {
	i, w := s.anyWorker(r)
	return workerName(i), errors.Join(w.process.End(), s.startWorker(ctx, i, 0))
}

// skewWorker leaves the clock wrong: the worker's next restart sets it.
func (s *site) skewWorker(ctx context.Context, r *rand.Rand) (string, error) {
	i, w := s.anyWorker(r)
	skew := 20 * time.Second
	if r.IntN(2) == 0 {
		skew = -skew
	}
	return fmt.Sprintf("%s by %v", workerName(i), skew), errors.Join(w.process.End(), s.startWorker(ctx, i, skew))
}

func (s *site) cutClient(ctx context.Context, _ *rand.Rand) (string, error) {
	return "the callers", s.cut(ctx, s.front[:])
}

func (s *site) killNode(ctx context.Context, r *rand.Rand) (string, error) {
	i := r.IntN(nodes)
	return nodeName(i), errors.Join(s.servers[i].Kill(), s.startNode(ctx, i))
}

func (s *site) stopNode(ctx context.Context, r *rand.Rand) (string, error) {
	i := r.IntN(nodes)
	return nodeName(i), errors.Join(
		s.servers[i].Signal(syscall.SIGSTOP), pause(ctx, s.cfg.For), s.servers[i].Signal(syscall.SIGCONT))
}

// around are the links between a server and the others.
func (s *site) around(i int) (links []*link) {
	for j := range nodes {
		if i != j {
			links = append(links, s.between[i][j], s.between[j][i])
		}
	}
	return links
}

func (s *site) partNode(ctx context.Context, r *rand.Rand) (string, error) {
	i := r.IntN(nodes)
	return nodeName(i), s.cut(ctx, s.around(i))
}

// cutNode cuts all links that lead to a server or from it.
func (s *site) cutNode(ctx context.Context, r *rand.Rand) (string, error) {
	i := r.IntN(nodes)
	links := append(s.around(i), s.front[i])
	for _, w := range s.workers {
		links = append(links, w.links[i])
	}
	return nodeName(i), s.cut(ctx, links)
}

func (s *site) restartNode(ctx context.Context, r *rand.Rand) (string, error) {
	i := r.IntN(nodes)
	return nodeName(i), errors.Join(s.servers[i].End(), s.startNode(ctx, i))
}

func (s *site) slowNode(ctx context.Context, r *rand.Rand) (string, error) {
	i := r.IntN(nodes)
	p := s.servers[i]
	for began := time.Now(); time.Since(began) < s.cfg.For; {
		err := errors.Join(
			p.Signal(syscall.SIGSTOP), pause(ctx, 80*time.Millisecond),
			p.Signal(syscall.SIGCONT), pause(ctx, 20*time.Millisecond))
		if err != nil {
			return nodeName(i), err
		}
	}
	return nodeName(i), nil
}

func (s *site) loseQuorum(ctx context.Context, r *rand.Rand) (string, error) {
	left := r.IntN(nodes)
	var errs []error
	for i := range nodes {
		if i != left {
			errs = append(errs, s.servers[i].Kill())
		}
	}
	errs = append(errs, pause(ctx, s.cfg.For))
	for i := range nodes {
		if i != left {
			errs = append(errs, s.startNode(ctx, i))
		}
	}
	return "all but " + nodeName(left), errors.Join(errs...)
}

// fillDisk writes into a namespace of its own until nothing fits any more, and
// removes that again.
func (s *site) fillDisk(ctx context.Context, _ *rand.Rand) (string, error) {
	const junk, chunk = "junk", 512 << 10
	if err := s.direct.EnsureNamespace(ctx, junk); err != nil {
		return "", err
	}
	js := s.direct.JetStream()
	body := make([]byte, chunk)
	var full error
	for i := 0; full == nil && i < 4*maxStore/chunk; i++ {
		asked, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, full = js.PublishMsg(asked, &nats.Msg{Subject: fmt.Sprintf("$KV.%s.%d", junk, i), Data: body})
		cancel()
	}
	if full == nil {
		return "", &wire.Error{Op: "fill the disk", Kind: wire.KindConflict, Msg: "more fits than there should be room for"}
	}
	err := pause(ctx, s.cfg.For)
	for range 30 { // an answer may be late: everything is
		asked, cancel := context.WithTimeout(ctx, 10*time.Second)
		gone := js.DeleteStream(asked, "KV_"+junk)
		cancel()
		if gone == nil || ctx.Err() != nil {
			return "all servers", errors.Join(err, context.Cause(ctx))
		}
	}
	return "all servers", errors.Join(err, errors.New("what filled the disk can't be removed"))
}
