package kvlattice

import (
	"context"
	"errors"
)

// ErrStale is returned by Bucket.PutBase when the base is no longer at the
// revision that was expected.
var ErrStale = errors.New("base was replaced in the meantime")

// A Snapshot is what one replica of the storage held of a key at one moment.
// The replica may lag, but it has no holes: a snapshot that shows revision r
// shows every write of the key up to r.
type Snapshot struct {
	Base  *Entry // nil if there is none
	Slots []Entry
	// AsOf is a revision: every write of the key up to it is in the snapshot. It
	// is at least what Read was asked for, and may be lower than what is shown.
	AsOf uint64
}

// A Bucket is the storage of one namespace. All methods may be called
// concurrently, and return once the storage has acknowledged. A write that
// returned another error than ErrStale may still be stored, now or later.
type Bucket interface {
	// Read returns a snapshot of the key that includes every write of it up to
	// revision after; 0 asks for nothing. A key that was never written is a
	// Snapshot without elements and no error.
	Read(ctx context.Context, key string, after uint64) (Snapshot, error)
	// PutBase replaces the base if its revision is still rev (0: there is
	// none), else returns ErrStale. It returns the new revision.
	PutBase(ctx context.Context, key string, e Entry, rev uint64) (uint64, error)
	// PutSlot overwrites the slot of e.Writer, blindly, and returns its revision.
	PutSlot(ctx context.Context, key string, e Entry) (uint64, error)
	// PurgeSlot removes the writer's slot unless it is newer than rev.
	PurgeSlot(ctx context.Context, key, writer string, rev uint64) error
}

// An Update tells that an element of a followed key was written.
type Update struct {
	Key   string
	Entry Entry
	// Lost says that updates of any followed key may have been missed (a
	// reconnect); the other fields are empty. Whoever caches must re-read.
	Lost bool
	// Missed says that this update of Key can't be read any more, because it was
	// replaced: of Entry there is only Rev. Whoever caches must re-read the key.
	Missed bool
	// Purged says that somebody has removed keys from the bucket, or all of it, other
	// than by writing; the other fields are empty. What is stored counts, and nothing
	// of what was known.
	Purged bool
	// AsOf says that every write up to this revision of a key that was followed by
	// then has been told. 0 says nothing.
	AsOf uint64
}

// A Feed tells of writes to exactly the keys that are followed, in the order of
// their revisions, which all keys of a bucket share. Updates that arrive before
// Listen is called are kept for it.
type Feed interface {
	Follow(key string) error
	Unfollow(key string) error
	// Fence returns a revision: what a read up to it, or later, misses of a key that
	// was followed before arrives as an Update. 0 is any read.
	Fence(ctx context.Context) (uint64, error)
	// Listen hands updates to fn, one at a time, until ctx ends. fn doesn't
	// block, and neither follows nor unfollows.
	Listen(ctx context.Context, fn func(Update)) error
}
