//go:build !wasip1

package cloudburst

// exchange stands where there is no host.
func exchange([]byte) []byte { return nil }
