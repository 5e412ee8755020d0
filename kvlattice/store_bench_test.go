package kvlattice_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
)

// benchStore runs a store for a benchmark.
func benchStore(b *testing.B, mem *latticetest.Memory) *kvlattice.Store {
	b.Helper()
	s := kvlattice.New(kvlattice.Config{Writer: "w"}, mem, mem.Feed())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	return s
}

func BenchmarkGetCached(b *testing.B) {
	ctx := context.Background()
	keys := make([]string, 1000)
	mem := latticetest.NewMemory()
	for i := range keys {
		keys[i] = fmt.Sprint("cart.", i)
		mem.Put(keys[i], kvlattice.Entry{Body: []byte(`{"some":"value"}`)})
	}
	get := func(b *testing.B, s *kvlattice.Store, i int) {
		b.Helper()
		if _, found, err := s.Get(ctx, keys[i%len(keys)]); !found || err != nil {
			b.Error(found, err)
		}
	}
	b.Run("serial", func(b *testing.B) {
		s := benchStore(b, mem)
		i := 0
		for b.Loop() {
			get(b, s, i)
			i++
		}
	})
	b.Run("parallel", func(b *testing.B) {
		s := benchStore(b, mem)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				get(b, s, i)
			}
		})
	})
}

func BenchmarkMerge(b *testing.B) {
	ctx := context.Background()
	b.Run("quiet", func(b *testing.B) {
		s := benchStore(b, latticetest.NewMemory())
		for b.Loop() {
			if err := s.Put(ctx, "k", val("1")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("slot", func(b *testing.B) {
		mem := latticetest.NewMemory()
		e := kvlattice.Entry{Writer: "other"}
		e.Header, e.Body = kvlattice.NewLWW(val("0"), kvlattice.Timestamp{}, "other").Encode()
		if _, err := mem.PutSlot(ctx, "k", e); err != nil {
			b.Fatal(err)
		}
		s := benchStore(b, mem)
		if _, _, err := s.Get(ctx, "k"); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := s.Put(ctx, "k", val("1")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("counter of 64 writers", func(b *testing.B) {
		mem := latticetest.NewMemory()
		var seq atomic.Uint64
		s := benchStore(b, mem)
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c := kvlattice.NewCounter()
				c.AddTotal("client", seq.Add(1), 1)
				if _, err := s.Merge(ctx, "n", c); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
