package runtime

import "context"

// Stamps know the latest timestamp of what a program has seen and written, so that its
// next writes come after that, wherever they are made.
type Stamps interface {
	// Known returns what a call must carry along (see consistency.Past); empty is nothing.
	Known() string
	// Learn takes in what the result of a call brought.
	Learn(past string)
}

type stampsKey struct{}

// WithStamps returns the context of a function whose calls carry on what its run knows.
func WithStamps(ctx context.Context, s Stamps) context.Context {
	return context.WithValue(ctx, stampsKey{}, s)
}

// StampsOf returns the stamps of the function that ctx belongs to; otherwise those given.
func StampsOf(ctx context.Context, otherwise Stamps) Stamps {
	if s, ok := ctx.Value(stampsKey{}).(Stamps); ok {
		return s
	}
	return otherwise
}
