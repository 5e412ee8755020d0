package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// How a part of the platform is.
const (
	HealthOK      = "ok"
	HealthWarning = "warning" // it works, and somebody may want to know
	HealthBroken  = "broken"
)

// A Finding is what an examination found of one part of the platform.
type Finding struct {
	What   string `json:"what"` // store, stream, pool, function, DAG, size, worker, timer, dead letter
	Name   string `json:"name"`
	Health string `json:"health"` // HealthOK, HealthWarning or HealthBroken
	Detail string `json:"detail,omitempty"`
}

// Examine looks whether anything can be stored, at every stream of the platform, at every pool, and at entries
// that nobody can use. It changes nothing.
func (b *Broker) Examine(ctx context.Context) ([]Finding, error) {
	names, err := b.streamNames(ctx)
	if err != nil {
		return nil, err
	}
	found := []Finding{b.examineStore(ctx)}
	for _, cfg := range append(b.topology().platform(), b.topology().namespace(DefaultNamespace)) {
		if names[cfg.Name] {
			found = append(found, b.examineStream(ctx, cfg.Name))
			continue
		}
		found = append(found, Finding{"stream", cfg.Name, HealthBroken, "it isn't there: a running `cloudburst server` or `cloudburst gateway` makes it anew"})
	}
	r := newRegistry()
	if !names[bucketStream(BucketFunctions)] || !names[bucketStream(BucketDAGs)] || !names[bucketStream(BucketWorkers)] {
		return found, nil // said above: without these there is nothing to compare pools with
	}
	if err := r.read(ctx, b); err != nil {
		return nil, err
	}
	workers, broken, err := b.announced(ctx)
	if err != nil {
		return nil, err
	}
	served := make(map[string]int)
	for _, w := range workers {
		served[w.Pool]++
	}
	subjects, layout := make(map[string][]string), r.layout()
	for subject, pool := range layout {
		subjects[pool] = append(subjects[pool], subject)
	}
	pools, err := b.Pools(ctx)
	if err != nil {
		return nil, err
	}
	for pool := range subjects {
		pools = append(pools, pool)
	}
	slices.Sort(pools)
	for _, pool := range slices.Compact(pools) {
		found = append(found, b.examinePool(ctx, pool, subjects[pool], served[pool]))
	}
	for _, e := range broken {
		found = append(found, Finding{"worker", e.Key, HealthBroken, e.Reason})
	}
	odd, err := b.examineEntries(ctx, r, layout, names)
	return append(found, odd...), err
}

// examineStore finds out whether what is sent is stored.
func (b *Broker) examineStore(ctx context.Context) Finding {
	name := b.nc.ConnectedServerName()
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	err := b.storesNothing(ctx)
	if full := b.Full(); full != nil {
		return Finding{"store", name, HealthBroken, full.Error()}
	}
	if err != nil {
		return Finding{"store", name, HealthBroken, err.Error() + ": " + storeAdvice}
	}
	return Finding{"store", name, HealthOK, "what is sent is stored"}
}

func (b *Broker) examineStream(ctx context.Context, name string) Finding {
	stream, err := b.js.Stream(ctx, name)
	if err != nil {
		return Finding{"stream", name, HealthBroken, apiError("look at stream", name, err).Error()}
	}
	info := stream.CachedInfo()
	if info.Config.Replicas > 1 && info.Cluster != nil {
		for _, peer := range info.Cluster.Replicas {
			if peer.Offline || !peer.Current {
				return Finding{"stream", name, HealthWarning, "its copy on " + peer.Name + " is behind or away"}
			}
		}
	}
	return Finding{"stream", name, HealthOK, strconv.FormatUint(info.State.Msgs, 10) + " messages"}
}

func (b *Broker) examinePool(ctx context.Context, pool string, subjects []string, workers int) Finding {
	broken := func(why string) Finding { return Finding{"pool", pool, HealthBroken, why} }
	have, listens, err := b.callsConfig(ctx, pool)
	switch {
	case err != nil:
		return broken(err.Error())
	case have == nil:
		return broken("its stream of calls isn't there")
	}
	lag, err := b.Lag(ctx, pool)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || wire.KindOf(err) == wire.KindUnknown {
		return broken("its consumer isn't there: workers make it anew")
	}
	if err != nil {
		return broken(err.Error())
	}
	if lacks := missing(listens, subjects); len(lacks) > 0 {
		return broken("its stream doesn't listen to " + lacks[0] + ": calls of it are refused")
	}
	if workers == 0 && len(subjects) > 0 {
		return Finding{"pool", pool, HealthWarning, "no worker serves it: calls wait"}
	}
	return Finding{"pool", pool, HealthOK, strconv.Itoa(workers) + " workers, " + strconv.FormatUint(lag.Pending, 10) + " calls wait"}
}
