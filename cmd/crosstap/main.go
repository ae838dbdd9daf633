// Command crosstap sees the traffic between virtual machines.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"crosstap/internal/start"
)

// Exit codes. Scripts depend on them; they are listed in the help of the root command.
const (
	exitOK       = 0
	exitFinding  = 1 // differences, unhealthy, coverage not met
	exitUsage    = 2 // wrong usage or configuration
	exitNoServer = 3 // server unreachable
	exitDenied   = 4 // not logged in, not allowed, missing privilege
	exitPartly   = 5 // partly applied
	exitTimeout  = 6 // timed out or cancelled by the server's limit
	exitRefused  = 7 // refused by a safety rule or budget
	exitSignal   = 130
)

// exitError is an error with the code the process ends with. A nil err ends it silently.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exit returns an error that ends the process with that code.
func exit(code int, err error) error { return &exitError{code: code, err: err} }

// codeOf is the exit code of an error about files, interfaces and the like: one that may not be touched, one that is not there, or else.
func codeOf(err error, otherwise int) int {
	switch {
	case errors.Is(err, os.ErrPermission):
		return exitDenied
	case errors.Is(err, os.ErrNotExist):
		return exitUsage
	}
	return otherwise
}

// usagef returns a usage error.
func usagef(format string, args ...any) error { return exit(exitUsage, fmt.Errorf(format, args...)) }

func main() { os.Exit(run(arguments(os.Args))) }

// arguments returns the command line. Wireshark calls the program by another name.
func arguments(args []string) []string {
	if len(args) > 0 && filepath.Base(args[0]) == extcapName {
		return append([]string{"extcap"}, args[1:]...)
	}
	return args[min(1, len(args)):]
}

// staying are the commands that work for long; a tap says so itself when it is one.
var staying = []string{"agent", "capture", "demo", "net-netflow", "serve"}

// run executes one command line and returns the exit code.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once; not one that comes with the first, as timeout(1) and a terminal send it to
	// the process and to its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	if len(args) > 0 && slices.Contains(staying, args[0]) {
		start.Over()
	}
	root := newRoot(args...)
	root.SetArgs(args)
	return exitCode(root.ExecuteContext(ctx))
}

// exitCode prints the error, if it has something to say, and chooses the code. Errors without a
// code come from cobra's own parsing: wrong usage.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, "crosstap:", text)
	}
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return exitUsage
}

// newRoot returns the program's command line: what these arguments ask for, all of it for none.
func newRoot(args ...string) *cobra.Command {
	root := &cobra.Command{
		Use:   "crosstap",
		Short: "See the traffic between virtual machines",
		Long: `crosstap copies the traffic between virtual machines where it is, meters it into flows, collects
the flows of every other exporter, and answers who talks to whom, in which tenant, through which
tunnel endpoints, and what is not seen.

Exit codes: 0 done, 1 a finding, 2 wrong usage or configuration, 3 server unreachable, 4 not allowed,
5 partly applied, 6 timed out, 7 refused by a safety rule, 130 interrupted.`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       knownCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(unknownFlag)
	root.SetHelpCommandGroupID("setup")
	root.SetCompletionCommandGroupID("setup")
	addCommands(root, wanted(args))
	countArguments(root)
	return root
}

// wanted returns the command that arguments begin with, when it is one that scripts start again and again: to make all takes as long as
// to read a small capture. Otherwise it returns all commands.
func wanted(args []string) []*cobra.Command {
	if len(args) > 0 {
		if newOne := alone()[args[0]]; newOne != nil {
			return []*cobra.Command{newOne()}
		}
	}
	return commands()
}

func alone() map[string]func() *cobra.Command {
	return map[string]func() *cobra.Command{"capture": newCapture, "decode": newDecode, "tap": newTap, "version": newVersion}
}

// groups are the headings of the help, in their order.
var groups = []*cobra.Group{{ID: "run", Title: "Run:"}, {ID: "ask", Title: "Ask:"}, {ID: "taps", Title: "Tap:"}, {ID: "fix", Title: "Fix:"}, {ID: "setup", Title: "Setup:"}}

// addCommands adds the commands and those headings that they stand under.
func addCommands(root *cobra.Command, list []*cobra.Command) {
	used := map[string]bool{"setup": true} // help and completion
	for _, c := range list {
		used[c.GroupID] = true
	}
	for _, g := range groups {
		if used[g.ID] {
			root.AddGroup(g)
		}
	}
	root.AddCommand(list...)
}
