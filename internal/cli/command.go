// Package cli is what the project's programs have in common: how they complain, the
// codes they exit with, and what cobra's commands lack.
package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// Group returns a command that only holds others.
func Group(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long}
	cmd.AddCommand(subs...)
	return cmd
}

// Finish makes a command and its subcommands complain in our words. An unknown
// subcommand suggests near names, and an error of cobra becomes a usage error.
func Finish(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.DisableFlagsInUseLine = true
	cmd.SetFlagErrorFunc(flagError)
	switch check := cmd.Args; {
	case cmd.HasSubCommands():
		cmd.Args = unknownSubcommand
		if cmd.RunE == nil {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	case check != nil:
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				if strings.HasPrefix(err.Error(), "unknown command") { // the command takes no argument
					return Usagef(cmd, "%s takes no argument (%q)", cmd.CommandPath(), args[0])
				}
				return Usagef(cmd, "%w; want %s", err, cmd.UseLine())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		Finish(sub)
	}
}

// Complete makes fn complete a flag of the command.
func Complete(cmd *cobra.Command, flag string, fn cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, fn); err != nil {
		panic(err) // the flag was never added, or is completed twice
	}
}
