//go:build cbfaults

package consistency

import "os"

// faulty says whether the environment variable CLOUDBURST_FAULTS switches a
// protocol off:
//
//	pins    what a run read upstream is read anew
//	seen    a key may go back within a session
//	cut     what a value depends on needn't be shown
//	clock   a write replaces what its run was not shown
//	order   a run's writes of one key are stored together, where the last of them was made
func faulty(protocol string) bool { return os.Getenv("CLOUDBURST_FAULTS") == protocol }
