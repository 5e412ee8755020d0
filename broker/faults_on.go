//go:build cbfaults

package broker

import "os"

// faulty says whether the environment variable CLOUDBURST_FAULTS switches a protocol
// off:
//
//	repeat      a call that may be a repeat isn't compared with the results
//	recovering  what a cluster refuses while it recovers isn't asked again
//	revive      a pool whose consumer is missed isn't looked after
//	grace       a stream that is deleted is made anew at once
func faulty(protocol string) bool { return os.Getenv("CLOUDBURST_FAULTS") == protocol }
