//go:build cbfaults

package deployments

import (
	"os"
	"time"
)

// storedAt returns when a call was stored. If the environment variable CLOUDBURST_FAULTS
// is "log", the worker's own clock says so, to show what goes wrong then.
func storedAt(stored time.Time, now func() time.Time) time.Time {
	if os.Getenv("CLOUDBURST_FAULTS") == "log" {
		return now()
	}
	return stored
}
