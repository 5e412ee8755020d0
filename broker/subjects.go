package broker

import (
	"strconv"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// The wire contract: every name that a NATS client can see.
//
//	cb.fn.<name>              request: call and wait (the gateway answers)
//	cb.call.<name>            publish: call and go on (stored in its pool's stream)
//	cb.dag.<dag>.<node>       a DAG node's call (stored likewise)
//	cb.run.<run>.<…>          state of a run: inputs awaiting a join, node timings, cancellation
//	cb.timer.<run>.<…>        a call that is handed out later: a schedule of the server's
//	cb.fire.<run>.<…>         one whose time has come
//	cb.dead.<name>            dead letters
//	cb.blob.<digest>          chunks of large arguments and results
//	cb.chunk.<ns>.<digest>    chunks of large state values
//	cb.event.<what>.<name>    what happens: started, finished, failed, retried; and scaled.<pool>
//	cb.cache.<worker>.<…>     workers ask each other for versions that a run has read
//	cb.worker.<worker>.<…>    asks a worker to prepare, or to have taken up, a version of a function
//	cb.slots.<worker>         asks a worker to run so many calls at once
//	cb.at.<worker>            hands a worker a call that another pulled
//	cb.place.<pool>           workers of a pool tell each other which keys they have
//	cb.log.<function>         what functions print
//	cb.msg.<to>.<from>        messages between running functions, by their ids
//	cb.inbox.<to>.<from>      each of them, after it was stored
//	cb.cancel.<run>           tells workers at once that a run was cancelled
//	cb.stats.<worker>         a worker's numbers, once a second
//	cb.platform.topology      the platform's sizes, after they were changed
//	cb.platform.full          a server can't write its store, twice a second
//	cb.upd.<ns>.<key>         every write to a state bucket, after it was stored
const (
	subjectFn     = "cb.fn."
	subjectCall   = "cb.call."
	subjectNode   = "cb.dag."
	subjectRun    = "cb.run."
	subjectTimer  = "cb.timer."
	subjectFire   = "cb.fire."
	subjectDead   = "cb.dead."
	subjectBlob   = "cb.blob."
	subjectChunk  = "cb.chunk."
	subjectEvent  = "cb.event."
	subjectCache  = "cb.cache."
	subjectWorker = "cb.worker."
	subjectSlots  = "cb.slots."
	subjectAt     = "cb.at."
	subjectPlace  = "cb.place."
	subjectLog    = "cb.log."
	subjectMsg    = "cb.msg."
	subjectInbox  = "cb.inbox."
	subjectCancel = "cb.cancel."
	subjectStats  = "cb.stats."
	subjectUpdate = "cb.upd."

	subjectPlatform = "cb.platform."
	subjectFull     = subjectPlatform + "full"
	subjectKV       = "$KV."

	inboxPrefix = "_INBOX."
)

// Streams and buckets of the platform.
const (
	StreamRuns   = "CB_RUNS"
	StreamTimers = "CB_TIMERS"
	StreamDead   = "CB_DEAD"
	StreamBlobs  = "CB_BLOBS"
	StreamLogs   = "CB_LOGS"

	// StreamMessages holds what running functions send each other.
	StreamMessages = "CB_MESSAGES"

	BucketResults   = "cb_results"
	BucketFunctions = "cb_functions"
	BucketDAGs      = "cb_dags"
	BucketWorkers   = "cb_workers"

	// BucketImages is the object store of functions' code.
	BucketImages = "cb_images"

	// DefaultNamespace is the bucket that functions keep their state in unless
	// they name another.
	DefaultNamespace = "state"
	// DefaultPool hosts the functions that name no pool.
	DefaultPool = "default"
	// DeployedPool hosts what is deployed without naming a pool.
	DeployedPool = "deployed"

	// CallsConsumer is the one durable consumer of every calls stream.
	CallsConsumer = "workers"
)

// CallsStream returns the name of a pool's stream of calls.
func CallsStream(pool string) string { return "CB_CALLS_" + pool }

// CallSubject returns where a call of a function or DAG is published.
func CallSubject(name string) string { return subjectCall + name }

// NodeSubject returns where a call of a DAG's node is published.
func NodeSubject(dag, node string) string { return subjectNode + dag + "." + node }

// callSubject returns where the call goes: its node's subject if it is one of a node.
func callSubject(c *wire.Call) string {
	if c.Node == "" {
		return CallSubject(c.Name)
	}
	dag, _, _ := strings.Cut(c.DAG, "@")
	return NodeSubject(dag, c.Node)
}

// parseCallSubject is the inverse of callSubject.
func parseCallSubject(subject string) (name, node string) {
	if name, ok := strings.CutPrefix(subject, subjectCall); ok {
		return name, ""
	}
	if rest, ok := strings.CutPrefix(subject, subjectNode); ok {
		name, node, _ = strings.Cut(rest, ".")
		return name, node
	}
	return "", ""
}

// timerSubject returns where the timer of a call is kept: a call has one.
func timerSubject(c *wire.Call) string {
	step := c.Step()
	if step == "" {
		step = timerCall
	}
	return subjectTimer + runToken(c.Run) + "." + strconv.Itoa(c.Epoch) + "." + step
}

// timerCall stands for the step of a call that is of no DAG's node.
const timerCall = "$call"

// bucketStream returns the stream behind a KV bucket.
func bucketStream(bucket string) string { return "KV_" + bucket }

func bucketSubject(bucket, key string) string { return subjectKV + bucket + "." + key }

// runSubject returns where something of a run's state is, as Call.RunState names that.
func runSubject(state wire.RunID, rest string) string {
	run, epoch, again := strings.Cut(string(state), ":")
	if again {
		rest = ":" + epoch + "." + rest
	}
	return subjectRun + runToken(wire.RunID(run)) + "." + rest
}

// runToken makes one subject token of a run id, which may hold dots.
func runToken(run wire.RunID) string {
	if !strings.ContainsAny(string(run), ".=") {
		return string(run)
	}
	return strings.NewReplacer("=", "=3D", ".", "=2E").Replace(string(run))
}
