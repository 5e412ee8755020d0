package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Header is a message's headers, as NATS clients hold them.
type Header = map[string][]string

// MaxDepth is how many runs are inside of each other at most: DAGs in DAGs, and calls that
// functions make and wait for.
const MaxDepth = 64

// A Call asks for one function, or one node of a DAG, to run once.
type Call struct {
	Run   RunID
	Name  string // the function or DAG that was called
	DAG   string // of a node's call: <name>@<version> of the run's DAG
	Node  string // of a node's call: which node
	Args  Value
	Reply string // the inbox that awaits the result; may be empty
	Level string // consistency level asked for; empty means the default
	Past  string // what the run has seen so far, or its caller before: see consistency.Past
	Epoch int    // how often the run has begun again
	Depth int    // in how many other runs the run is: a DAG in a DAG, or a call by a function; below MaxDepth
	// Began, of a node's call, is when the run's first call was stored, to the
	// millisecond. Zero: that isn't known.
	Began time.Time

	// Fresh says that no other call has, or will have, the run's id: no earlier call
	// of the run is looked for. An id that a caller chose is not fresh.
	Fresh bool
	// Digest, of a run whose id isn't fresh, tells its call from others under the same
	// id: see Fingerprint.
	Digest string

	// Of a call that is one of many for a node: which item of the list, counted
	// from 0, and how many there are. Items is 0 otherwise.
	Item  int
	Items int
	// Wait is how long after it is stored the call is handed out.
	Wait time.Duration
	// Patient says that who waits for the result waits also while no worker serves the
	// pool. It doesn't travel.
	Patient bool

	// Of a delivery: where the call is stored and how often it was handed out.
	Stream  string
	Source  string // the incarnation of the stream; empty: the one that its worker began with
	Seq     uint64
	Attempt int // 1 is the first that the server knows of
	Stored  time.Time
	// Doubtful says that the call may have been handed out before, though the server
	// doesn't know of it: a server that died forgets the last deliveries.
	Doubtful bool
}

// Again says whether the call may have been handed out before.
func (c *Call) Again() bool { return c.Attempt > 1 || c.Doubtful }

// Named says whether the call is the one that a caller makes, under an id that may
// have been used before.
func (c *Call) Named() bool {
	return !c.Fresh && c.Node == "" && c.Epoch == 0 && !IsContained(c.Run)
}

// Trials tell how the executions of a call ended that was handed out often.
type Trials struct {
	Begun   bool `json:"begun,omitempty"`   // one goes on, or its worker has died
	Lost    int  `json:"lost,omitempty"`    // no worker has handed the call back
	Missing int  `json:"missing,omitempty"` // the worker lacked the function
}

// A Verdict says what becomes of a call that was handed out, before it is run.
type Verdict int

// Verdicts.
const (
	RunIt  Verdict = iota // nothing speaks against it
	Ended                 // its run has ended, or its id is another call's: it is to be acknowledged
	LookUp                // another call of the same run is under way: it is to be looked at again later
)

// RunState names the run in its state: each time that it begins again it has a
// state of its own. The name of a later one has a colon, which no run's id has.
func (c *Call) RunState() RunID {
	if c.Epoch == 0 {
		return c.Run
	}
	return c.Run + ":" + RunID(strconv.Itoa(c.Epoch))
}

// MessageID is what the stream of calls knows a call by. That of a caller's call is
// the run's id; the others have colons, so that no caller's id is one of them:
// <run>:<epoch> begins the run again, and <run>:<epoch>:<step> runs a step of it.
func (c *Call) MessageID() string {
	if c.Node == "" {
		return string(c.RunState())
	}
	return string(c.Run) + ":" + strconv.Itoa(c.Epoch) + ":" + c.Step()
}

// Address names an execution, for messages: that of a function which was called by
// itself is its run's id, and that of a step of a DAG is <run>:<step>.
func Address(run RunID, step string) string {
	if step == "" {
		return string(run)
	}
	return string(run) + ":" + step
}

// SourceAgain ends the name of a source of counts whose runs may begin again. A call of
// such a run counts under the run's first call, which is settled when the run has ended.
const SourceAgain = "!"

// Step names what the call runs of its DAG: the node, or an item of it.
func (c *Call) Step() string {
	if c.Items == 0 {
		return c.Node
	}
	return c.Node + "." + strconv.Itoa(c.Item)
}

// Status is how a run stands.
type Status string

// A run is pending until a worker takes it, running until it ends, and then
// one of the other three.
const (
	StatusPending   Status = "pending"
	StatusRunning   Status = "running"
	StatusOK        Status = "ok"
	StatusFailed    Status = "failed"
	StatusCancelled Status = "cancelled"
)

// A Result is the outcome of a run.
type Result struct {
	Run      RunID
	Name     string
	Status   Status
	Value    Value  // when Status is ok
	Err      *Error // when it isn't
	Worker   string
	Started  time.Time
	Took     time.Duration
	Attempts int
	Nodes    []NodeTiming // of a DAG
	Past     string       // for the caller's next call, if it asked for that
	Restarts int          // how often the run began again
	// Digest is the Fingerprint of the run's call, of a run whose id isn't fresh.
	Digest string
	// By, of a run that failed, names the call that ended it: <stream>-<sequence>.
	By string

	// Kept says that the run has state, which goes with its end. It isn't encoded.
	Kept bool
	// Node, of a failure, is the node whose call failed; empty if it was the run's
	// first call. It isn't encoded.
	Node string
}

// Fingerprint tells calls apart by the function or DAG that they name and by their
// argument. White space in JSON makes no difference.
func Fingerprint(name string, args Value) string {
	typ, body := args.Type, args.Body
	if args.IsJSON() {
		typ = ""
		var compact bytes.Buffer
		if json.Compact(&compact, body) == nil {
			body = compact.Bytes()
		}
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(name), []byte(typ), body} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write(part)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// An Input is what one node of a DAG brings to another.
type Input struct {
	Value
	Past string // what the run had seen by then
	// Skipped says that nothing comes of it, now or later.
	Skipped bool
	// Once has its storing refused, as KindConflict, if it is there already.
	Once bool
}

// A Message is what one running function has sent another.
type Message struct {
	From string // the sender's id
	Value
}

// NodeTiming tells when and where a node of a DAG ran.
type NodeTiming struct {
	Node    string        `json:"node"`
	Worker  string        `json:"worker,omitempty"`
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took"`
}

// Encode returns the result as a message: the value, or the error as a JSON
// object, with everything else in headers.
func (r *Result) Encode() (Header, []byte) {
	h := make(Header, 6)
	h[HeaderStatus] = []string{string(r.Status)}
	h[HeaderInfo] = []string{r.info()}
	if len(r.Nodes) > 0 {
		h[HeaderNodes] = []string{nodesLine(r.Nodes)}
	}
	if r.Past != "" {
		h[HeaderSession] = []string{r.Past}
	}
	if r.Err != nil {
		h[HeaderError] = []string{strconv.Itoa(int(r.Err.Kind))}
		h[HeaderServiceError] = []string{headerLine(r.Err.Error())}
		h[HeaderServiceErrorCode] = []string{strconv.Itoa(r.Err.Kind.Code())}
		body, err := json.Marshal(r.Err)
		if err != nil {
			body = []byte(`{"error":"unprintable"}`)
		}
		return h, body
	}
	if r.Value.Type != "" {
		h[HeaderType] = []string{r.Value.Type}
	}
	return h, r.Value.Body
}

// info puts what is known of a run into one header line, since each header costs
// every message its own share: "run=r1 name=f worker=w1 started=… took=1ms attempts=1".
func (r *Result) info() string {
	b := make([]byte, 0, 160)
	b = append(append(b, "run="...), r.Run...)
	b = append(append(b, " name="...), r.Name...)
	b = append(append(b, " worker="...), r.Worker...)
	b = r.Started.UTC().AppendFormat(append(b, " started="...), time.RFC3339Nano)
	b = append(append(b, " took="...), r.Took.String()...)
	b = strconv.AppendInt(append(b, " attempts="...), int64(r.Attempts), 10)
	if r.Restarts > 0 {
		b = strconv.AppendInt(append(b, " restarts="...), int64(r.Restarts), 10)
	}
	if r.Digest != "" {
		b = append(append(b, " call="...), r.Digest...)
	}
	if r.By != "" {
		b = append(append(b, " by="...), r.By...)
	}
	return string(b)
}

// nodesLine puts timings into one header line: "a w1 2026-01-02T15:04:05Z 1ms; b …".
func nodesLine(nodes []NodeTiming) string {
	b := make([]byte, 0, 100*len(nodes))
	for i, n := range nodes {
		if len(b) > 32<<10 { // a message has room for 64 KiB of headers, and timings are advice
			break
		}
		if i > 0 {
			b = append(b, "; "...)
		}
		b = append(append(append(b, n.Node...), ' '), n.Worker...)
		b = n.Started.UTC().AppendFormat(append(b, ' '), time.RFC3339Nano)
		b = append(append(b, ' '), n.Took.String()...)
	}
	return string(b)
}

// readNodes reads what nodesLine wrote. Timings are advice: what can't be read
// is left out.
func readNodes(line string) []NodeTiming {
	if line == "" {
		return nil
	}
	nodes := make([]NodeTiming, 0, 1+strings.Count(line, ";"))
	for part := range strings.SplitSeq(line, "; ") {
		fields := strings.Split(part, " ")
		if len(fields) != 4 {
			continue
		}
		n := NodeTiming{Node: fields[0], Worker: fields[1]}
		n.Started, _ = time.Parse(time.RFC3339Nano, fields[2])
		n.Took, _ = time.ParseDuration(fields[3])
		nodes = append(nodes, n)
	}
	return nodes
}

// readInfo reads what info wrote; what can't be read stays zero.
func (r *Result) readInfo(line string) {
	for field := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "run":
			r.Run = RunID(value)
		case "name":
			r.Name = value
		case "worker":
			r.Worker = value
		case "started":
			r.Started, _ = time.Parse(time.RFC3339Nano, value)
		case "took":
			r.Took, _ = time.ParseDuration(value)
		case "attempts":
			r.Attempts, _ = strconv.Atoi(value)
		case "restarts":
			r.Restarts, _ = strconv.Atoi(value)
		case "call":
			r.Digest = value
		case "by":
			r.By = value
		}
	}
}

// DecodeResult reads what Encode wrote. A message without a status is not a
// result: ok is false.
func DecodeResult(h Header, body []byte) (r Result, ok bool) {
	status := First(h, HeaderStatus)
	if status == "" {
		return Result{}, false
	}
	r = Result{Status: Status(status)}
	r.readInfo(First(h, HeaderInfo))
	r.Nodes = readNodes(First(h, HeaderNodes))
	r.Past = First(h, HeaderSession)
	if r.Status == StatusOK {
		r.Value = Value{Body: body, Type: First(h, HeaderType)}
		return r, true
	}
	r.Err = new(Error)
	if err := json.Unmarshal(body, r.Err); err != nil {
		r.Err = &Error{Kind: KindFunction, Name: r.Name, Msg: string(body)}
	}
	return r, true
}

// First returns the first value of a header, or "".
func First(h Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// headerLine makes one short header line of a message.
func headerLine(s string) string {
	const most = 300
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
