//go:build !linux

package python

// An identity is the worker's own: other systems keep what is a user's elsewhere, and
// instances run as the worker's user.
type identity struct {
	switched bool
	id       uint32
}

type identities struct{}

func newIdentities() *identities { return nil }

func (*identities) switches() bool { return false }
func (*identities) alone() bool    { return false }
func (*identities) take() identity { return identity{} }
func (*identities) give(identity)  {}
func (*identities) sweep(identity) {}
