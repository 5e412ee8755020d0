package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// What an operator changes by hand falls into three kinds. Most settings stay as the
// operator wants them: descriptions, limits, ages, placement, acknowledgement waits.
// Those that a promise rests on are put right, here. Those of them that the server
// can't change any more are an error, with the way out.

// The fields that a promise rests on.
var (
	// streamPromises are those of a stream.
	streamPromises = []string{
		"retention", "storage", "subjects", "discard", "discard_new_per_subject", "max_msgs_per_subject",
		"allow_direct", "allow_rollup_hdrs", "allow_atomic", "allow_msg_ttl", "allow_msg_schedules", "allow_msg_counter",
		"subject_delete_marker_ttl", "republish", "subject_transform", "deny_delete", "deny_purge", "no_ack", "sealed",
		"mirror", "sources", "consumer_limits", "persist_mode",
	}
	// consumerPromises are those of a pool's consumer.
	consumerPromises = []string{
		"ack_policy", "deliver_policy", "opt_start_seq", "opt_start_time", "replay_policy", "max_deliver", "backoff",
		"filter_subject", "filter_subjects", "headers_only", "max_batch", "max_expires", "max_bytes", "inactive_threshold",
		"mem_storage", "deliver_subject", "priority_policy", "priority_groups",
	}
	// permissions do no harm where nothing needs them.
	permissions = []string{"allow_direct", "allow_rollup_hdrs", "allow_atomic", "allow_msg_ttl", "allow_msg_schedules", "deny_delete"}
)

// A difference is a field that isn't as it should be.
type difference struct{ field, found, right string }

func (d difference) String() string {
	return fmt.Sprintf("%s is %s, not %s", d.field, d.found, d.right)
}

// compare returns how fields of a configuration differ from what is wanted.
func compare(have, wanted config, fields []string) []difference {
	var differ []difference
	for _, field := range fields {
		h, w := meaning(have[field]), meaning(wanted[field])
		if reflect.DeepEqual(h, w) || w == nil && slices.Contains(permissions, field) {
			continue
		}
		differ = append(differ, difference{field, show(field, h), show(field, w)})
	}
	return differ
}

// wrong returns what of a stream breaks a promise.
func (c config) wrong(wanted config) []difference {
	differ := compare(c, wanted, streamPromises)
	if have, want := c.time("duplicate_window"), wanted.time("duplicate_window"); have < want {
		differ = append(differ, difference{"duplicate_window", show("duplicate_window", meaning(c["duplicate_window"])), want.String()})
	}
	if meaning(wanted["name"]) == StreamRuns { // a run may wait for ever, and its state with it
		differ = append(differ, compare(c, wanted, []string{"max_age"})...)
	}
	return differ
}

// toConfig returns the JSON form of a configuration of the client's.
func toConfig(cfg any) (config, error) {
	raw, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	var c config
	return c, json.Unmarshal(raw, &c)
}

// number reads a field; what isn't set, or unlimited, is 0.
func (c config) number(field string) int64 {
	n, err := strconv.ParseInt(string(c[field]), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (c config) time(field string) time.Duration { return time.Duration(c.number(field)) }

// with returns the configuration with the given fields as they are in another.
func (c config) with(wanted config, fields []string) config {
	next := maps.Clone(c)
	for _, field := range fields {
		if raw, set := wanted[field]; set {
			next[field] = raw
		} else {
			delete(next, field)
		}
	}
	return next
}

// change returns the configuration with those fields changed in which two wanted ones
// differ; nil if it has them already.
func (c config) change(old, wanted any) (config, error) {
	from, err := toConfig(old)
	if err != nil {
		return nil, err
	}
	to, err := toConfig(wanted)
	if err != nil {
		return nil, err
	}
	var fields []string
	for field := range union(from, to) {
		if !reflect.DeepEqual(meaning(from[field]), meaning(to[field])) && !reflect.DeepEqual(meaning(c[field]), meaning(to[field])) {
			fields = append(fields, field)
		}
	}
	if len(fields) == 0 {
		return nil, nil
	}
	next := c.with(to, fields)
	// The server refuses a window that is longer than the age.
	if age := next.time("max_age"); age > 0 && next.time("duplicate_window") > age {
		next["duplicate_window"] = next["max_age"]
	}
	return next, nil
}

// wanted returns how a stream of the platform should be; false if it isn't one.
func (t Topology) wanted(name string, have config) (jetstream.StreamConfig, bool) {
	for _, cfg := range t.platform() {
		if cfg.Name == name {
			return cfg, true
		}
	}
	if pool, ok := strings.CutPrefix(name, CallsStream("")); ok {
		cfg := t.calls(pool, nil)
		cfg.Subjects, _ = have.subjects() // they are the registry's
		return cfg, true
	}
	if ns, ok := strings.CutPrefix(name, chunksStream("")); ok {
		return t.chunks(ns), true
	}
	if ns, ok := strings.CutPrefix(name, bucketStream("")); ok && have.namespaceOfOurs(ns) {
		return t.namespace(ns), true
	}
	return jetstream.StreamConfig{}, false
}

// namespaceOfOurs tells a namespace from a bucket of somebody else's: it has one of
// the marks that no other bucket has, whatever an edit took away.
func (c config) namespaceOfOurs(ns string) bool {
	return !strings.HasPrefix(ns, reservedPrefix) &&
		(strings.Contains(string(c["republish"]), strconv.Quote(subjectUpdate+ns+".>")) ||
			meaning(c["allow_atomic"]) != nil || meaning(c["subject_delete_marker_ttl"]) != nil)
}

// mend puts a stream right, as far as a promise rests on it.
func (b *Broker) mend(ctx context.Context, have config, want jetstream.StreamConfig) error {
	wanted, err := toConfig(want)
	if err != nil {
		return err
	}
	if ns, bucket := strings.CutPrefix(want.Name, bucketStream("")); bucket && !strings.HasPrefix(ns, reservedPrefix) &&
		!have.namespaceOfOurs(ns) && have.number("max_msgs_per_subject") != 1 {
		return contradiction("stream", want.Name, compare(have, wanted, []string{"max_msgs_per_subject"}),
			"it is a bucket of somebody else's, with revisions that a namespace doesn't keep: use another namespace, or give them up with `nats kv edit "+ns+" --history 1`")
	}
	return b.mendFields(ctx, have, wanted, have.wrong(wanted))
}

func (b *Broker) mendFields(ctx context.Context, have, wanted config, wrong []difference) error {
	if len(wrong) == 0 {
		return nil
	}
	name, _ := meaning(have["name"]).(string)
	fields := make([]string, len(wrong))
	for i, d := range wrong {
		fields[i] = d.field
	}
	next := have.with(wanted, fields)
	if age := next.time("max_age"); age > 0 && next.time("duplicate_window") > age {
		next["duplicate_window"] = next["max_age"]
	}
	if _, err := b.configOf(ctx, "STREAM.UPDATE."+name, next, b.timeout); err != nil {
		if why, never := unchangeable(err); never {
			return contradiction("stream", name, wrong, "the server can't change that ("+why+
				"): copy what is needed (`nats stream backup "+name+" DIR`) and remove it (`nats stream rm "+name+"`); it is made anew then")
		}
		return apiError("put right stream", name, err)
	}
	for _, d := range wrong {
		b.observe.putRight("stream", name, d)
	}
	return nil
}

// unchangeable tells what a server refuses for good from what it can't do now.
func unchangeable(err error) (why string, never bool) {
	const codeStreamConfig, codeConsumerConfig = 10052, 10012 // both say 500
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return "", false
	}
	return api.Description, api.Code == 400 || api.ErrorCode == codeStreamConfig || api.ErrorCode == codeConsumerConfig
}

// contradiction is the error for what can't be put right.
func contradiction(what, name string, wrong []difference, way string) error {
	texts := make([]string, len(wrong))
	for i, d := range wrong {
		texts[i] = d.String()
	}
	return &wire.Error{Op: "set up " + what, Kind: wire.KindConflict, Name: name, Msg: strings.Join(texts, "; ") + ": " + way}
}

// mendConsumer puts a pool's consumer right. One that the server can't change is made
// anew: it hands out all calls that aren't purged yet.
func (b *Broker) mendConsumer(ctx context.Context, pool string, have config) error {
	wanted, err := toConfig(b.topology().workers())
	if err != nil {
		return err
	}
	wrong := compare(have, wanted, consumerPromises)
	if len(wrong) == 0 {
		b.noteAckWait(pool, have)
		return nil
	}
	fields := make([]string, len(wrong))
	for i, d := range wrong {
		fields[i] = d.field
		if d.field == "backoff" {
			fields = append(fields, "ack_wait") // its first wait had taken that one's place
		}
	}
	err = b.updateConsumer(ctx, pool, have.with(wanted, fields))
	if _, never := unchangeable(err); never {
		if err := b.js.DeleteConsumer(ctx, CallsStream(pool), CallsConsumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return apiError("put right consumer of pool", pool, err)
		}
		err = b.ensureConsumer(ctx, pool, false)
	}
	if err == nil {
		for _, d := range wrong {
			b.observe.putRight("consumer", pool, d)
		}
	}
	return err
}

// updateConsumer changes a pool's consumer.
func (b *Broker) updateConsumer(ctx context.Context, pool string, next config) error {
	body := struct {
		Stream string `json:"stream_name"`
		Config config `json:"config"`
		Action string `json:"action"`
	}{CallsStream(pool), next, "update"}
	_, err := b.configOf(ctx, "CONSUMER.CREATE."+CallsStream(pool)+"."+CallsConsumer, body, b.timeout)
	return apiError("change consumer of pool", pool, err)
}

// PutRight looks at every stream of the platform, and at the pools' consumers, and
// puts right what a promise rests on. What somebody changed otherwise stays.
func (b *Broker) PutRight(ctx context.Context) error {
	return b.platformLock().hold(ctx, "platform", b.putRight) // not while somebody changes the sizes
}

func (b *Broker) putRight(ctx context.Context) error {
	t, err := b.learnStored(ctx, b.timeout)
	if err == nil && t.rev == 0 { // somebody removed it
		_, err = b.writeRecord(ctx, t, t.Topology)
	}
	if err != nil {
		return apiError("read the sizes of the platform", "", err)
	}
	var errs []error
	err = b.eachStream(ctx, func(name string, have config) error {
		want, ours := t.wanted(name, have)
		if !ours {
			return nil
		}
		errs = append(errs, b.mend(ctx, have, want))
		b.moreCopies(ctx, have, want)
		if pool, calls := strings.CutPrefix(name, CallsStream("")); calls {
			consumer, err := b.consumerConfig(ctx, pool)
			if err == nil && consumer != nil {
				err = b.mendConsumer(ctx, pool, consumer)
			}
			errs = append(errs, err)
		}
		return nil
	})
	return errors.Join(append(errs, apiError("list streams", "", err))...)
}

// KeepRight puts right what a promise rests on, now and then, until ctx ends.
func (b *Broker) KeepRight(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := b.PutRight(ctx); err != nil && ctx.Err() == nil {
				b.observe.catchUpFailed("settings of streams", err) // the next round tries again
			}
		}
	}
}

// moreCopies gives a stream the copies that it lacks. Where there are too few servers
// for that it goes on with those that it has.
func (b *Broker) moreCopies(ctx context.Context, have config, want jetstream.StreamConfig) {
	if have.number("num_replicas") >= int64(want.Replicas) {
		return
	}
	next := maps.Clone(have)
	next["num_replicas"] = json.RawMessage(strconv.Itoa(want.Replicas))
	d := difference{"num_replicas", string(have["num_replicas"]), strconv.Itoa(want.Replicas)}
	if _, err := b.configOf(ctx, "STREAM.UPDATE."+want.Name, next, b.timeout); err != nil {
		b.observe.fewCopies(want.Name, d, err)
		return
	}
	b.observe.putRight("stream", want.Name, d)
}
