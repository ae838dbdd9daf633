package main

import (
	"fmt"

	"crosstap/internal/nearest"

	"github.com/spf13/cobra"
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
	hint := fmt.Sprintf("; %q lists them", cmd.CommandPath()+" --help")
	if near := nearest.Of(args[0], names); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return usagef("unknown command %q%s", args[0], hint)
}
