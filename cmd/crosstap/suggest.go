package main

import (
	"fmt"
	"strings"

	"crosstap/internal/nearest"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// knownCommand refuses words after a command that has only subcommands, and says which was probably meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(append(names, c.Name()), c.Aliases...)
		}
	}
	return usagef("unknown command %q; %s", args[0], nearest.Hint(args[0], names, fmt.Sprintf("%q lists them", cmd.CommandPath()+" --help")))
}

// unknownFlag adds the flag that was probably meant to cobra's message. Flags of a command that does not exist are not what is wrong.
func unknownFlag(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return knownCommand(cmd, cmd.Flags().Args())
	}
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return exit(exitUsage, err)
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := nearest.Of(name, names); near != "" {
		return usagef("%w; did you mean --%s?", err, near)
	}
	return usagef("%w; %q lists them", err, cmd.CommandPath()+" --help")
}
