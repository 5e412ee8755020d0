package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// An interruptedError is the end of a command that was interrupted.
type interruptedError struct {
	goesOn string // what does, all the same
	err    error
}

func (e *interruptedError) Error() string { return "interrupted: " + e.goesOn }

func (e *interruptedError) Unwrap() error { return e.err }

// goesOn is where a command says what goes on, or may be done, if it is interrupted.
const goesOn = "goes on"

// explain puts an error of an action into words: what goes on if the command was
// interrupted, and that its time has run out.
func explain(cmd *cobra.Command, within time.Duration, err error) error {
	e, ours := errors.AsType[*wire.Error](err)
	switch {
	case cli.Interrupted(cmd.Context(), err):
		what := cmd.Annotations[goesOn]
		if what == "" {
			what = "nothing was changed"
		}
		if ours && e.Msg != "" && e.Op == "call" { // it knows the run
			what = e.Msg
		}
		return &interruptedError{what, err}
	case ours && e.Op == "connect to NATS" && e.Kind == wire.KindTimeout:
		late := *e
		late.Msg = fmt.Sprintf("no connection within %v; --timeout allows for more", within)
		return &late
	case !ours && errors.Is(err, context.DeadlineExceeded):
		msg := fmt.Sprintf("no answer within %v; --timeout allows for more", within)
		if what := cmd.Annotations[goesOn]; what != "" {
			msg += "; " + what
		}
		return &wire.Error{Op: strings.TrimPrefix(cmd.CommandPath(), "cloudburst "), Kind: wire.KindTimeout, Msg: msg, Err: err}
	default:
		return err
	}
}
