package autoscaler

import "time"

// A window remembers values for a bounded time, in a ring of buckets. A bucket
// that saw no value says nothing: a pause in measuring is no drop in load.
type window struct {
	step    time.Duration
	buckets []bucket
}

type bucket struct {
	number int64 // steps since the epoch; another number in its place is outdated
	count  int
	sum    float64
	most   float64
}

// newWindow returns a window that remembers for span, to the nearest step.
func newWindow(span, step time.Duration) *window {
	step = max(step, time.Millisecond)
	// One more, since the newest is not full, and at most a day's at 1 s.
	n := min(int(span/step)+1, 86_400)
	return &window{step: step, buckets: make([]bucket, max(n, 1))}
}

func (w *window) add(now time.Time, v float64) {
	number := now.UnixNano() / int64(w.step)
	b := &w.buckets[int(number%int64(len(w.buckets)))]
	if b.number != number {
		*b = bucket{number: number, most: v}
	}
	b.count++
	b.sum += v
	b.most = max(b.most, v)
}

// average returns the mean of the values of the last span.
func (w *window) average(now time.Time, span time.Duration) float64 {
	sum, count := 0.0, 0
	for b := range w.last(now, span) {
		// Buckets weigh the same, however often was measured in each.
		sum += b.sum / float64(b.count)
		count++
	}
	if count == 0 {
		return 0
	}
	return sum / float64(count)
}

// most returns the highest value of the last span.
func (w *window) most(now time.Time, span time.Duration) float64 {
	most := 0.0
	for b := range w.last(now, span) {
		most = max(most, b.most)
	}
	return most
}

// last yields the buckets of the last span that saw a value.
func (w *window) last(now time.Time, span time.Duration) func(yield func(bucket) bool) {
	newest := now.UnixNano() / int64(w.step)
	n := min(max(int64(span/w.step), 1), int64(len(w.buckets)))
	return func(yield func(bucket) bool) {
		for number := max(newest-n+1, 0); number <= newest; number++ {
			b := w.buckets[int(number%int64(len(w.buckets)))]
			if b.number == number && b.count > 0 && !yield(b) {
				return
			}
		}
	}
}
