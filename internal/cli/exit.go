package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Exit codes. They are part of what scripts rely on: never renumbered.
const (
	ExitOK          = 0
	ExitFailed      = 1 // the function failed, or anything not below
	ExitUsage       = 2 // the command line, a name or an argument is wrong
	ExitUnknown     = 3
	ExitUnavailable = 4
	ExitTimeout     = 5 // the function's, or the command's own
	ExitBusy        = 6
	ExitRefused     = 7   // it exists otherwise, is invalid or too large
	ExitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// Report tells of an error and returns the exit code. The error's lines begin with the
// program's name. Each of several problems has a line, and further lines are indented.
func Report(ctx context.Context, stderr io.Writer, program string, err error) int {
	if err == nil {
		return ExitOK
	}
	fmt.Fprintf(stderr, "%s: %s\n", program, strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\n  "))
	if u, ok := errors.AsType[*UsageError](err); ok {
		fmt.Fprintf(stderr, "See `%s --help`.\n", u.cmd.CommandPath())
	}
	if Interrupted(ctx, err) {
		return ExitInterrupted
	}
	return ExitCode(err)
}

// Interrupted says whether an error is that somebody has ended the command.
func Interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}

// ExitCode returns the exit code of an error.
func ExitCode(err error) int {
	if _, ok := errors.AsType[*UsageError](err); ok {
		return ExitUsage
	}
	switch wire.KindOf(err) {
	case wire.KindBadArgument, wire.KindBadName:
		return ExitUsage
	case wire.KindUnknown:
		return ExitUnknown
	case wire.KindUnavailable, wire.KindNoWorker:
		return ExitUnavailable
	case wire.KindTimeout:
		return ExitTimeout
	case wire.KindBusy:
		return ExitBusy
	case wire.KindConflict, wire.KindInvalid, wire.KindLattice, wire.KindTooLarge:
		return ExitRefused
	default:
		if errors.Is(err, context.DeadlineExceeded) {
			return ExitTimeout
		}
		return ExitFailed
	}
}

// A UsageError is a command line that can't be carried out as it stands.
type UsageError struct {
	cmd *cobra.Command
	err error
}

func (e *UsageError) Error() string { return e.err.Error() }

func (e *UsageError) Unwrap() error { return e.err }

// Usage says that a command line can't be carried out, and why.
func Usage(cmd *cobra.Command, err error) error { return &UsageError{cmd, err} }

// Usagef is Usage with a formatted reason.
func Usagef(cmd *cobra.Command, format string, args ...any) error {
	return &UsageError{cmd, fmt.Errorf(format, args...)}
}

func flagError(cmd *cobra.Command, err error) error {
	// An unknown command with flags that only it would know.
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return unknownSubcommand(cmd, args)
	}
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return Usagef(cmd, "--%s %s: %s", wrong.GetFlag().Name, cmp.Or(wrong.GetValue(), `""`), wanted(wrong))
	}
	short, ok := strings.CutPrefix(err.Error(), "unknown shorthand flag: '")
	if ok && strings.ContainsAny(short[:1], "0123456789.") {
		return Usagef(cmd, "%w: write -- before what begins with a dash and isn't a flag: %s … -- -5",
			err, cmd.CommandPath())
	}
	return &UsageError{cmd, err}
}

func unknownSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return Usagef(cmd, "%s has no command %q%s", cmd.CommandPath(), args[0], DidYouMean(cmd.SuggestionsFor(args[0])))
}

// wanted says what the value of a flag looks like.
func wanted(wrong *pflag.InvalidValueError) string {
	own, says := errors.AsType[*wire.Error](wrong.Unwrap())
	if _, bytes := wrong.GetFlag().Value.(*Bytes); says && !bytes {
		return own.Msg
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

// Near returns the names that somebody who typed name may have meant.
func Near(name string, names []string) []string { return wire.Near(name, slices.Values(names)) }

// DidYouMean puts suggestions behind a message; nothing if there are none.
func DidYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	names = names[:min(len(names), 3)]
	return "; did you mean " + strings.Join(slices.Compact(names), " or ") + "?"
}
