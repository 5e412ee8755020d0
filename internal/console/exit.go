package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

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
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		return exitInterrupted
	}
	return exitCode(err)
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
	case wire.KindUnavailable:
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

// near returns the names that somebody who typed name may have meant: those
// that begin with it or are two letters away at most. Cobra knows how.
func near(name string, names []string) []string {
	c := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, n := range names {
		c.AddCommand(&cobra.Command{Use: n, Run: func(*cobra.Command, []string) {}})
	}
	return c.SuggestionsFor(name)
}

// didYouMean puts suggestions behind a message; nothing if there are none.
func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	names = names[:min(len(names), 3)]
	return "; did you mean " + strings.Join(slices.Compact(names), " or ") + "?"
}
