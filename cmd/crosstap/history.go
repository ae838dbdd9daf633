//go:build !agent

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"crosstap/internal/control"
	"crosstap/internal/serve/controlapi"
	"crosstap/internal/state"

	"github.com/spf13/cobra"
)

func newRollback() *cobra.Command {
	c := &change{}
	cmd := &cobra.Command{
		Use: "rollback CHANGE", Short: "Bring back what was in force before a change", GroupID: "taps", Args: cobra.ExactArgs(1),
		Long: `rollback puts the resources that a change has changed back to what they were before it, and makes the platforms so. It is a change itself, and
can be rolled back. "crosstap history" lists changes.

When a resource was changed again since, going back would undo that, too: rollback names these changes and does nothing (exit code 7). Roll them back
first, the newest first, or undo them together with --force. --dry-run shows the plan, with what would be undone, and changes nothing.`,
		Example: "  crosstap history\n  crosstap rollback 12 --dry-run\n  crosstap rollback 12 --why \"wrong tenant\"",
	}
	c.flags(cmd)
	force := cmd.Flags().Bool("force", false, "undo later changes of the same resources, too")
	dry := cmd.Flags().Bool("dry-run", false, "show the plan, and change nothing")
	cmd.Flags().StringVar(&c.why, "why", "", "reason, for the history")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || id < 1 {
			return usagef("rollback: %q is no number of a change; \"crosstap history\" lists them", args[0])
		}
		if err := c.checkOutput(); err != nil {
			return err
		}
		q := &controlapi.Request{Change: id, Who: author(), Why: c.why, Force: *force}
		if *dry {
			return c.show(cmd, q)
		}
		return c.make(cmd, "rollback", q)
	}
	return cmd
}

// show prints the plan of a request.
func (c *change) show(cmd *cobra.Command, q *controlapi.Request) error {
	p := new(planned)
	raw, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodPost, "plan", nil, q, p)
	switch {
	case err != nil:
		return err
	case c.output != "table":
		return c.print(cmd.OutOrStdout(), raw)
	}
	printDiff(cmd.OutOrStdout(), p)
	printUndone(cmd.OutOrStdout(), p.Undoes)
	printRefusals(cmd.OutOrStdout(), p.Refusals)
	return nil
}

// printUndone names the later edits that a rollback undoes.
func printUndone(w io.Writer, list []control.Later) {
	for i := range list {
		fmt.Fprintf(w, "! undone, too: %s\n", list[i].String())
	}
}

func newHistory() *cobra.Command {
	c := &change{}
	cmd := &cobra.Command{
		Use: "history [CHANGE | KIND/NAME]", Short: "List changes of policies: who, when, why, and what became of them", GroupID: "taps", Args: cobra.MaximumNArgs(1),
		Long: `history lists changes, the newest first. With a number it shows that change with each step that was made; with KIND/NAME those of one resource. -o yaml
has the texts before and after, as they were written.`,
		Example: "  crosstap history\n  crosstap history 12 -o yaml\n  crosstap history tap/blue-db",
	}
	c.controller.flags(cmd)
	cmd.Flags().StringVarP(&c.output, "output", "o", "table", "format: table, json, yaml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.checkOutput(); err != nil {
			return err
		}
		path, q := "history", url.Values{}
		var list controlapi.History
		var one controlapi.Change
		doc := any(&list)
		kind, name, ofOne := strings.Cut(strings.Join(args, ""), "/")
		switch {
		case ofOne:
			if kind = kindOf(kind); kind == "" || name == "" {
				return usagef("history: %q: want a number, or KIND/NAME with a kind of tap, destination, platform, tenant", args[0])
			}
			q = url.Values{"kind": {kind}, "name": {name}}
		case len(args) == 1:
			path, doc = "history/"+args[0], &one
		}
		raw, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodGet, path, q, nil, doc)
		if err != nil {
			return err
		}
		if c.output != "table" {
			return c.print(cmd.OutOrStdout(), raw)
		}
		if len(args) == 1 && !ofOne {
			list.Rows = []state.Change{one.Change}
		}
		if len(list.Rows) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "no changes")
		}
		printHistory(cmd.OutOrStdout(), list.Rows, one.Steps)
		return nil
	}
	return cmd
}

// printHistory writes the changes as a table and, of one change, its steps as another.
func printHistory(w io.Writer, list []state.Change, steps []state.Step) {
	if len(list) == 0 {
		return
	}
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CHANGE\tAT\tACTION\tSTATE\tWHO\tRESOURCES\tWHY")
	for _, h := range list {
		names := h.Resource
		for _, e := range h.Edits {
			names = append(names, e.Kind+" "+e.Name+textAlone(&e))
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", h.ID, h.At.Local().Format("2006-01-02 15:04:05"), h.Action, h.State, h.Who, strings.Join(names, ", "), h.Why)
	}
	_ = t.Flush() // into memory
	if len(steps) > 0 {
		fmt.Fprintln(t, "\n  STEP\tPLATFORM\tSTATE\tWHAT")
	}
	for _, s := range steps {
		var step struct{ Summary string }
		_ = json.Unmarshal([]byte(s.Step), &step) // the text is shown as far as there is one
		fmt.Fprintf(t, "  %d\t%s\t%s\t%s%s\n", s.N, s.Platform, s.State, step.Summary, because(s.Error))
	}
	_ = t.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}
