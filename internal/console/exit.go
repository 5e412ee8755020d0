package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

// Exit codes. They are part of what scripts rely on: never renumbered.
const (
	exitOK          = 0
	exitFailed      = 1 // the function failed, or anything not below
	exitUsage       = 2 // the command line, a name or an argument is wrong
	exitUnknown     = 3
	exitUnavailable = 4
	exitTimeout     = 5 // the function's, or the command's own
	exitBusy        = 6
	exitRefused     = 7   // it exists otherwise, is invalid or too large
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// report tells of an error and returns the exit code.
func (c *console) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	// Of several problems each has a line; what follows is indented.
	fmt.Fprintf(c.Stderr, "cloudburst: %s\n", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\n  "))
	if u, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(c.Stderr, "See `%s --help`.\n", u.cmd.CommandPath())
	}
	if interrupted(ctx, err) {
		return exitInterrupted
	}
	return exitCode(err)
}

// interrupted says whether an error is that somebody has ended the command.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}

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
	case interrupted(cmd.Context(), err):
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

func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	switch wire.KindOf(err) {
	case wire.KindBadArgument, wire.KindBadName:
		return exitUsage
	case wire.KindUnknown:
		return exitUnknown
	case wire.KindUnavailable, wire.KindNoWorker:
		return exitUnavailable
	case wire.KindTimeout:
		return exitTimeout
	case wire.KindBusy:
		return exitBusy
	case wire.KindConflict, wire.KindInvalid, wire.KindLattice, wire.KindTooLarge:
		return exitRefused
	default:
		if errors.Is(err, context.DeadlineExceeded) {
			return exitTimeout
		}
		return exitFailed
	}
}

// A usageError is a command line that can't be carried out as it stands.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd, fmt.Errorf(format, args...)}
}

func flagError(cmd *cobra.Command, err error) error {
	// An unknown command with flags that only it would know.
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return unknownSubcommand(cmd, args)
	}
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usagef(cmd, "--%s %s: %s", wrong.GetFlag().Name, first(wrong.GetValue(), `""`), wanted(wrong))
	}
	if msg := err.Error(); strings.HasPrefix(msg, "unknown shorthand flag: ") && strings.ContainsAny(msg[len("unknown shorthand flag: '"):][:1], "0123456789.") {
		return usagef(cmd, "%w: write -- before what begins with a dash and isn't a flag: %s … -- -5", err, cmd.CommandPath())
	}
	return &usageError{cmd, err}
}

func unknownSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef(cmd, "%s has no command %q%s", cmd.CommandPath(), args[0], didYouMean(cmd.SuggestionsFor(args[0])))
}

// wanted says what the value of a flag looks like.
func wanted(wrong *pflag.InvalidValueError) string {
	if _, size := wrong.GetFlag().Value.(*sizeFlag); size {
		if own, ok := errors.AsType[*wire.Error](wrong.Unwrap()); ok {
			return own.Msg
		}
	}
	switch wrong.GetFlag().Value.Type() {
	case "int", "uint64", "int64":
		return "it is a whole number"
	case "float64":
		return "it is a number"
	case "duration":
		return "it is a duration, such as 500ms, 30s or 2m"
	case "bool":
		return "it is true or false"
	case "size":
		return "it is a size, such as 1048576, 512MiB or 1.5GiB"
	default:
		return wrong.Unwrap().Error()
	}
}

// near returns the names that somebody who typed name may have meant.
func near(name string, names []string) []string { return wire.Near(name, slices.Values(names)) }

// didYouMean puts suggestions behind a message; nothing if there are none.
func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	names = names[:min(len(names), 3)]
	return "; did you mean " + strings.Join(slices.Compact(names), " or ") + "?"
}
