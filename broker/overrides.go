package broker

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// An Override is a setting that somebody changed at the storage itself, and that stays.
type Override struct {
	Stream string // or its consumer, as CB_CALLS_pool/workers
	Field  string // as the server calls it
	Found  string
	Would  string // what it would be by the platform's sizes
}

// byHand are the fields that may differ from the platform's sizes.
var (
	streamByHand   = []string{"num_replicas", "max_age", "max_bytes", "max_msgs", "max_msg_size", "duplicate_window"}
	consumerByHand = []string{"ack_wait", "max_ack_pending", "max_waiting"}
)

// PlatformSizes returns the platform's sizes, and what somebody set otherwise by hand.
// A platform that has none yet is an error of KindUnknown.
func (b *Broker) PlatformSizes(ctx context.Context) (Topology, []Override, error) {
	r, err := b.learnStored(ctx, b.timeout)
	if err != nil {
		return Topology{}, nil, apiError("read the sizes of the platform", "", err)
	}
	var found []Override
	there := false
	err = b.eachStream(ctx, func(name string, have config) error {
		want, ours := r.wanted(name, have)
		if !ours {
			return nil
		}
		there = true
		found, err = appendByHand(found, name, have, want, streamByHand)
		if pool, calls := strings.CutPrefix(name, CallsStream("")); calls && err == nil {
			var consumer config
			if consumer, err = b.consumerConfig(ctx, pool); err == nil && consumer != nil {
				found, err = appendByHand(found, name+"/"+CallsConsumer, consumer, r.workers(), consumerByHand)
			}
		}
		return err
	})
	if err == nil && !there {
		err = &wire.Error{Op: "read the sizes of the platform", Kind: wire.KindUnknown, Msg: "there is no platform yet"}
	}
	return r.Topology, found, apiError("list streams", "", err)
}

func appendByHand(found []Override, name string, have config, want any, fields []string) ([]Override, error) {
	wanted, err := toConfig(want)
	for _, d := range compare(have, wanted, fields) {
		found = append(found, Override{name, d.field, d.found, d.right})
	}
	return found, err
}

// eachStream has fn told of every stream that there is, by name. Streams whose servers
// are away are left out.
func (b *Broker) eachStream(ctx context.Context, fn func(name string, have config) error) error {
	all := make(map[string]config)
	for {
		ctx, cancel := context.WithTimeout(ctx, b.timeout)
		msg, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.LIST", []byte(`{"offset":`+strconv.Itoa(len(all))+`}`))
		cancel()
		if err != nil {
			return err
		}
		var answer struct {
			Total   int `json:"total"`
			Streams []struct{ Config config }
			Error   *jetstream.APIError `json:"error"`
		}
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			return err
		}
		if answer.Error != nil {
			return answer.Error
		}
		before := len(all)
		for _, s := range answer.Streams {
			if name, ok := meaning(s.Config["name"]).(string); ok {
				all[name] = s.Config
			}
		}
		if len(all) == before || len(all) >= answer.Total {
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := fn(name, all[name]); err != nil {
			return err
		}
	}
	return nil
}
