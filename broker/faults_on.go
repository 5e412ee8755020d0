//go:build cbfaults

package broker

import "os"

// faulty says whether the environment variable CLOUDBURST_FAULTS switches a protocol
// off:
//
//	repeat  a call that may be a repeat isn't compared with the results
func faulty(protocol string) bool { return os.Getenv("CLOUDBURST_FAULTS") == protocol }
