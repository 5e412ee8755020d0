//go:build !cbfaults

package consistency

// faulty says whether a protocol is switched off, to show that the checkers see
// what is missing then. None ever is but in builds with the tag cbfaults.
func faulty(string) bool { return false }
