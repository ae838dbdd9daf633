package main

import (
	"fmt"
	"slices"
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

// countArguments has a command and those below it say in words of their own that an argument is missing or too many.
func countArguments(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return wrongNumber(cmd, args, check(cmd, args)) }
	}
	for _, c := range cmd.Commands() {
		countArguments(c)
	}
}

// wrongNumber turns cobra's messages about arguments into ours, and leaves others as they are.
func wrongNumber(cmd *cobra.Command, args []string, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	var want, most, got int
	if n, _ := fmt.Sscanf(text, "accepts between %d and %d arg(s), received %d", &want, &most, &got); n == 3 {
		if got < want {
			return usagef("an argument is missing; usage: %s", cmd.UseLine())
		}
		return usagef("%q is an argument too many; usage: %s", args[len(args)-1], cmd.UseLine())
	}
	switch n, _ := fmt.Sscanf(text, "accepts %d arg(s), received %d", &want, &got); {
	case strings.HasPrefix(text, "requires at least "), n == 2 && got < want:
		return usagef("an argument is missing; usage: %s", cmd.UseLine())
	case n == 2, strings.HasPrefix(text, "accepts at most "):
		return usagef("%q is an argument too many; usage: %s", args[len(args)-1], cmd.UseLine())
	case strings.HasPrefix(text, "unknown command ") && strings.Contains(text, " for "): // cobra.NoArgs
		return usagef("%q is an argument too many; usage: %s", args[0], cmd.UseLine())
	case strings.HasPrefix(text, "invalid argument "): // cobra.OnlyValidArgs
		if i := slices.IndexFunc(args, func(a string) bool { return !slices.Contains(cmd.ValidArgs, a) }); i >= 0 {
			return usagef("%q: expected one of %s%s", args[i], strings.Join(cmd.ValidArgs, ", "), nearest.Behind(args[i], cmd.ValidArgs))
		}
	}
	return err
}
