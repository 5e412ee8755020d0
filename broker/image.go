package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

const (
	// MaxImage is the largest image of a function, in bytes.
	MaxImage = 256 << 20

	// imageUnusedFor is how old an image gets that no version of a function names: a
	// deployment takes minutes at most.
	imageUnusedFor = time.Hour

	// imageChunk is the size of an object's messages: a few round trips, and small
	// enough that calls on the same connection don't wait long.
	imageChunk = 256 << 10
)

// images opens the object store of functions' code, once.
func (b *Broker) images(ctx context.Context) (jetstream.ObjectStore, error) {
	b.objects.Lock()
	defer b.objects.Unlock()
	if b.objects.images == nil {
		store, err := b.js.ObjectStore(ctx, BucketImages)
		if err != nil {
			return nil, apiError("open the object store", BucketImages, err)
		}
		b.objects.images = store
	}
	return b.objects.images, nil
}

// objects is the object store, opened when it is first used.
type objects struct {
	sync.Mutex
	images jetstream.ObjectStore
}

// PutImage stores a function's code under its SHA-256, unless it is there
// already, and returns that.
func (b *Broker) PutImage(ctx context.Context, image []byte, sent func(bytes int64)) (digest string, err error) {
	if len(image) > MaxImage {
		return "", &wire.Error{Op: "store image", Kind: wire.KindTooLarge, Msg: fmt.Sprintf("%d bytes; the limit is %d: leave data out of it and keep that in state", len(image), MaxImage)}
	}
	store, err := b.images(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(image)
	digest = hex.EncodeToString(sum[:])
	info, err := store.GetInfo(ctx, digest)
	switch {
	case err == nil && info.Size == uint64(len(image)) && info.Digest == objectDigest(sum) && time.Since(info.ModTime) < imageUnusedFor/2:
		return digest, nil // an older one is stored again: the janitor may have an eye on it
	case err != nil && !errors.Is(err, jetstream.ErrObjectNotFound):
		return "", apiError("store image", digest, err)
	}
	_, err = store.Put(ctx, jetstream.ObjectMeta{
		Name: digest, Opts: &jetstream.ObjectMetaOptions{ChunkSize: min(imageChunk, uint32(b.chunkBytes()))},
	}, &counted{Reader: bytes.NewReader(image), sent: sent})
	return digest, apiError("store image", digest, err)
}

// counted tells what has been read of it.
type counted struct {
	io.Reader
	read int64
	sent func(int64) // may be nil
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.read += int64(n); c.sent != nil && n > 0 {
		c.sent(c.read)
	}
	return n, err
}

// objectDigest is how the object store writes a SHA-256.
func objectDigest(sum [sha256.Size]byte) string {
	return "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:])
}

// HasImage says whether the object store has an image of the name.
func (b *Broker) HasImage(ctx context.Context, digest string) (bool, error) {
	store, err := b.images(ctx)
	if err != nil {
		return false, err
	}
	_, err = store.GetInfo(ctx, digest)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return false, nil
	}
	return err == nil, apiError("look for image", digest, err)
}

// Image writes a function's code to w. It is an error of KindUnknown if it isn't
// there, of KindInvalid if it isn't what its name says: w has then taken what
// must not be used.
func (b *Broker) Image(ctx context.Context, digest string, w io.Writer) error {
	sum, err := hex.DecodeString(digest)
	if err != nil || len(sum) != sha256.Size {
		return &wire.Error{Op: "read image", Name: digest, Kind: wire.KindBadName, Msg: "an image is named by its SHA-256"}
	}
	store, err := b.images(ctx)
	if err != nil {
		return err
	}
	object, err := store.Get(ctx, digest)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return &wire.Error{Op: "read image", Name: digest, Kind: wire.KindUnknown, Msg: "not in the object store " + BucketImages + ": deploy the function again"}
	}
	if err != nil {
		return apiError("read image", digest, err)
	}
	defer object.Close() //nolint:errcheck // a reader: what it failed with was read
	damaged := &wire.Error{Op: "read image", Name: digest, Kind: wire.KindInvalid, Msg: "the object store holds something else under this name: deploy the function again"}
	info, err := object.Info()
	if err != nil {
		return apiError("read image", digest, err)
	}
	if info.Digest != objectDigest([sha256.Size]byte(sum)) || info.Size > MaxImage {
		return damaged
	}
	// The reader compares what it has read with the digest.
	if _, err := io.Copy(w, object); errors.Is(err, jetstream.ErrDigestMismatch) {
		return damaged
	} else if err != nil {
		return apiError("read image", digest, err)
	}
	return nil
}

// DropImages removes the images that no version of a function names and that are
// older than age, and returns how many.
func (b *Broker) DropImages(ctx context.Context, age time.Duration) (dropped int, err error) {
	store, err := b.images(ctx)
	if err != nil {
		return 0, err
	}
	infos, err := store.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return 0, nil
	}
	if err != nil {
		return 0, apiError("list images", "", err)
	}
	// Read after the list: what was stored for a version that is published by now
	// is named by it, and what isn't yet is young.
	r := newRegistry()
	if err := r.read(ctx, b); err != nil {
		return 0, err
	}
	used := make(map[string]bool, len(r.deployed))
	for _, of := range []map[string]wire.Function{r.deployed, r.functions} { // a hand may have written one and not the other
		for _, f := range of {
			used[f.Image] = true
		}
	}
	for _, info := range infos {
		if used[info.Name] || time.Since(info.ModTime) < age {
			continue
		}
		if err := store.Delete(ctx, info.Name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
			return dropped, apiError("remove image", info.Name, err)
		}
		dropped++
	}
	return dropped, nil
}
