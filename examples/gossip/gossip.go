// Package gossip computes the average of what many running functions hold, in two
// ways: the paper's experiment with functions that talk to each other (section
// 6.1.3).
//
// Actors gossip (Kempe, Dobra and Gehrke: push-sum): each keeps a sum and a weight,
// again and again sends half of both to another that it picks by chance, and adds
// up what it is sent. Sum over weight comes close to the average everywhere, and
// nobody leads. The other way, to gather, has members put their values into state,
// where a leader looks for them.
package gossip

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"time"

	"github.com/cloudburst-nats/cloudburst"
)

// Pool is the pool that the functions are served in.
const Pool = "gossip"

// The functions' names.
const (
	Actor  = "gossip-actor"
	Member = "gather-member"
	Leader = "gather-leader"
)

// A Part is what one function of a group is called with.
type Part struct {
	Group string  // names this average
	Index int     // from 0
	Size  int     // of the group
	Value float64 // what this one holds
}

// An Estimate is what an actor takes the average to be.
type Estimate struct {
	Mean   float64
	Rounds int
}

// Register adds the functions to a worker. All actors of a group run at the same
// time: the pool's workers need a slot for each.
func Register(w *cloudburst.Worker) {
	cloudburst.Handle(w, Actor, actor, cloudburst.About("estimates a group's average by gossip"), cloudburst.Attempts(1))
	cloudburst.Handle(w, Member, member, cloudburst.About("puts its value where the leader finds it"))
	cloudburst.Handle(w, Leader, leader, cloudburst.About("computes a group's average from state"))
}

const (
	// steady is how little (as a part of itself) an estimate may move in a round with
	// news to count as steady, and enough is for how many such rounds it has to: by
	// then all are within the 5 % that the paper asks for, and mostly within 1 %. A
	// round without news says nothing: on a busy machine there may be many.
	steady = 0.005
	enough = 6
	// alone is after how many rounds without news in a row an actor takes it that the
	// others have ended.
	alone = 10
	// A round waits for news for this long, so that those who have none yet don't
	// send all that they have away.
	listens = 2 * time.Millisecond
	// mostRounds bounds an actor that never hears of all others: by then it has
	// listened for two seconds, and halved its weight almost to the least number.
	mostRounds = 1000
	patience   = 30 * time.Second
)

// share is what one actor sends another: a half of its sum and weight.
type share struct {
	Sum, Weight float64
	// Of has a bit for each actor whose value is in the sum. One that begins late
	// would be left out by the others otherwise, and none of them would notice.
	Of *big.Int
}

// complete says whether every actor's value is in the sum.
func (mine *share) complete(size int) bool {
	for i := range size {
		if mine.Of.Bit(i) == 0 {
			return false
		}
	}
	return true
}

func actor(ctx context.Context, s *cloudburst.Session, p Part) (Estimate, error) {
	if p.Size < 1 || p.Index < 0 || p.Index >= p.Size {
		return Estimate{}, cloudburst.Permanent(fmt.Errorf("actor %d of %d: there is no such one", p.Index, p.Size))
	}
	mine := share{p.Value, 1, new(big.Int).SetBit(new(big.Int), p.Index, 1)}
	leastRounds := enough + 2*int(math.Ceil(math.Log2(float64(p.Size))))
	round, calm, quiet := 0, 0, 0
	for done := p.Size == 1; !done && round < mostRounds; done = round >= leastRounds && (calm >= enough || quiet >= alone) && mine.complete(p.Size) {
		round++
		before := mine.Sum / mine.Weight
		mine.Sum, mine.Weight = mine.Sum/2, mine.Weight/2
		other := (p.Index + 1 + rand.IntN(p.Size-1)) % p.Size
		if err := s.Send(ctx, address(p.Group, other), mine); err != nil {
			return Estimate{}, err
		}
		news, err := mine.listen(ctx, s)
		if err != nil {
			return Estimate{}, err
		}
		after := mine.Sum / mine.Weight
		switch {
		case !news:
			quiet++
		case math.Abs(after-before) > steady*math.Abs(after) || !mine.complete(p.Size):
			quiet, calm = 0, 0
		default:
			quiet = 0
			calm++
		}
	}
	return Estimate{Mean: mine.Sum / mine.Weight, Rounds: round}, nil
}

// listen adds up what has come, waits a moment for the first of it, and says whether
// any has.
func (mine *share) listen(ctx context.Context, s *cloudburst.Session) (news bool, err error) {
	for wait := listens; ; wait = 0 {
		msg, ok, err := s.Recv(ctx, wait)
		if err != nil || !ok {
			return news, err
		}
		var theirs share
		if err := msg.Decode(&theirs); err != nil {
			return news, err
		}
		news = true
		mine.Sum += theirs.Sum
		mine.Weight += theirs.Weight
		if theirs.Of != nil {
			mine.Of.Or(mine.Of, theirs.Of)
		}
	}
}

func member(ctx context.Context, s *cloudburst.Session, p Part) (struct{}, error) {
	return struct{}{}, s.Put(ctx, key(p.Group, p.Index), p.Value)
}

func leader(ctx context.Context, s *cloudburst.Session, p Part) (float64, error) {
	sum := p.Value
	for i := 1; i < p.Size; i++ {
		v, err := await(ctx, s, key(p.Group, i))
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum / float64(p.Size), nil
}

// await looks for a key until it is there.
func await(ctx context.Context, s *cloudburst.Session, key string) (float64, error) {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for until := time.Now().Add(patience); time.Now().Before(until); {
		v, found, err := s.Get(ctx, key)
		if err != nil {
			return 0, err
		}
		if found {
			var value float64
			return value, v.Decode(&value)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return 0, cloudburst.Permanent(fmt.Errorf("key %q isn't there after %v", key, patience))
}

func key(group string, index int) string { return fmt.Sprintf("%s:%d", group, index) }
