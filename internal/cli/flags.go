package cli

import (
	"strconv"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Bytes is a number of bytes, written with or without a unit.
type Bytes int64

// String returns what Set reads.
func (b *Bytes) String() string {
	if *b == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Type names the kind of flag in help texts.
func (b *Bytes) Type() string { return "size" }

// Set reads a number such as 1048576, 1MiB, 1.5GiB or 1MB.
func (b *Bytes) Set(text string) error {
	n, err := wire.ParseSize(text)
	if err != nil {
		return err
	}
	*b = Bytes(n)
	return nil
}
