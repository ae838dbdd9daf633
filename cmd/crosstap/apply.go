//go:build !agent

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/serve/controlapi"
	"crosstap/internal/state"

	"github.com/spf13/cobra"
)

// applied is what the command line reads of a change.
type applied struct {
	Plan    planned         `json:"plan"`
	Outcome control.Outcome `json:"outcome"`

	files []controlapi.File // of the request
}

func newApply() *cobra.Command {
	c := &change{}
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Make the platforms as policies want them", GroupID: "taps", Args: cobra.NoArgs,
		Long: `apply puts the resources of the files in force, beside those that are in force already, and makes all platforms as they are wanted: new
copies begin before old ones end, each step is read back, and a platform on which a step fails goes back to where it was. Only what
carries our mark is ever touched. Applied again, or after a crash, it completes what is missing and does nothing twice.

Exit codes: 0 done; 5 done on some platforms, those that were rolled back are named; 7 some of it is refused, the rest is done; 1 nothing
could be done.

` + policyHelp,
		Example: `  crosstap apply -f blue-db.yaml --why INC-4711
  crosstap apply -f taps/ --platform kvm-1@ovs=unix:/run/openvswitch/db.sock
  crosstap apply                # again what is in force, after somebody has changed a switch`,
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&c.why, "why", "", "reason, for the history")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := c.request(cmd)
		if err != nil {
			return err
		}
		return c.make(cmd, "apply", q)
	}
	return cmd
}

// make sends a request that changes something, and tells what became of it.
func (c *change) make(cmd *cobra.Command, path string, q *controlapi.Request) error {
	a := applied{files: q.Files}
	raw, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodPost, path, nil, q, &a)
	if err != nil {
		return err
	}
	if c.output != "table" {
		err = c.print(cmd.OutOrStdout(), raw)
	} else {
		printOutcome(cmd.OutOrStdout(), &a)
	}
	if err != nil {
		return err
	}
	return outcomeCode(&a)
}

func printOutcome(w io.Writer, a *applied) {
	for _, e := range a.Plan.Edits {
		verb := map[[2]bool]string{{false, true}: "created", {true, true}: "changed", {true, false}: "deleted"}[[2]bool{e.Before != "", e.After != ""}]
		fmt.Fprintf(w, "%s/%s %s%s\n", strings.ToLower(e.Kind), e.Name, verb, textAlone(&e))
	}
	printUndone(w, a.Plan.Undoes)
	about := a.about()
	for _, t := range a.Plan.Taps {
		for _, text := range t.Warnings {
			if about(t.Name) {
				fmt.Fprintf(w, "tap/%s: ! %s\n", t.Name, text)
			}
		}
	}
	printRefusals(w, a.refusals())
	for _, p := range a.Outcome.Platforms {
		fmt.Fprintf(w, "%s: %s, %d steps%s\n", p.Platform, p.State, p.Steps, because(p.Error))
	}
	switch {
	case a.Outcome.Change == 0:
		fmt.Fprintln(w, "nothing to do")
	default:
		took := time.Duration(a.Outcome.TookMS) * time.Millisecond
		fmt.Fprintf(w, "change %d: %s, %d steps in %v\n", a.Outcome.Change, a.Outcome.State, a.Outcome.Steps, took)
	}
}

// about tells which taps a change is about: those of its files, and those that it edits. All are when there are none, or when it edits what
// taps use.
func (a *applied) about() func(tap string) bool {
	named := map[string]bool{}
	for _, e := range a.Plan.Edits {
		if e.Kind != policy.KindTap {
			return func(string) bool { return true }
		}
		named[e.Name] = true
	}
	for _, f := range a.files {
		if set, err := policy.Parse(f.Name, []byte(f.Text)); err == nil {
			for _, t := range set.Taps {
				named[t.Name] = true
			}
		}
	}
	return func(tap string) bool { return len(named) == 0 || named[tap] || tap == "" }
}

// refusals are those of the taps that the change is about.
func (a *applied) refusals() []platform.Refusal {
	about := a.about()
	return slices.DeleteFunc(slices.Clone(a.Outcome.Refusals), func(r platform.Refusal) bool { return !about(r.Policy) })
}

// outcomeCode is the exit code of a change.
func outcomeCode(a *applied) error {
	o := &a.Outcome
	text := "not done on " + strings.Join(o.Failed(), ", ") + ", " + leftOn(o)
	switch {
	case o.State == state.Failed:
		return exit(exitFinding, errors.New(text))
	case o.State == state.Partly && len(o.Failed()) < len(o.Platforms):
		return exit(exitPartly, errors.New(text+"; the others are done"))
	case o.State == state.Partly:
		return exit(exitPartly, errors.New(text))
	}
	if n := len(a.refusals()); n > 0 {
		return exit(exitRefused, fmt.Errorf("%d refused, the rest is done", n))
	}
	return nil
}

// leftOn says what there is on the platforms that have not done a change.
func leftOn(o *control.Outcome) string {
	for _, p := range o.Platforms {
		switch p.State {
		case "failed":
			return "not all of it taken back on " + p.Platform + ": apply again when it answers, a server does by itself"
		case control.Unfinished:
			return "where what was to end may go on until " + p.Platform + " answers; it is not made again: apply then, a server does by itself"
		}
	}
	return "as it was there"
}

func newDelete() *cobra.Command {
	c := &change{}
	cmd := &cobra.Command{
		Use: "delete {-f FILE | KIND NAME}", Short: "Take resources out of force, and what was made for them off the platforms", GroupID: "taps", Args: cobra.MaximumNArgs(2),
		Long: `delete takes the resources that the files name, or one by kind and name, out of force and removes from all platforms what was made for
them. "crosstap rollback" brings them back.`,
		Example: `  crosstap delete tap blue-db --why "ticket closed"
  crosstap delete -f blue-db.yaml`,
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&c.why, "why", "", "reason, for the history")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return []cobra.Completion{"tap", "destination", "platform", "tenant"}, cobra.ShellCompDirectiveNoFileComp
		case 1:
			return completeNames(cmd.Context(), &source{server: c.server}, args[0], word), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := c.request(cmd)
		if err != nil {
			return err
		}
		var kept []string
		if q.Delete, kept, err = toDelete(q.Files, args); err != nil {
			return err
		}
		for _, name := range kept {
			fmt.Fprintf(cmd.ErrOrStderr(), "crosstap: platform %s stays, since others may use it; crosstap delete platform %s takes it away\n", name, name)
		}
		if len(q.Delete) == 0 {
			return nil
		}
		q.Files = nil
		if len(args) == 2 {
			if err := c.there(cmd, q.Delete[0]); err != nil {
				return err
			}
		}
		return c.make(cmd, "apply", q)
	}
	return cmd
}

// there reports a resource that is not in force.
func (c *change) there(cmd *cobra.Command, r policy.Resource) error {
	var doc controlapi.Resources
	if _, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodGet, "resources", url.Values{"kind": {r.Kind}}, nil, &doc); err != nil {
		return err
	}
	var names []string
	for _, have := range doc.Rows {
		names = append(names, have.Name)
	}
	if slices.Contains(names, r.Name) {
		return nil
	}
	return notThere("delete", strings.ToLower(r.Kind), r.Name, names)
}

// toDelete names what a delete is about.
func toDelete(files []controlapi.File, args []string) (out []policy.Resource, kept []string, err error) {
	switch {
	case len(args) == 2:
		kind := kindOf(args[0])
		if kind == "" {
			return nil, nil, usagef("delete: there is no kind %q; kinds: tap, destination, platform, tenant", args[0])
		}
		out = append(out, policy.Resource{Kind: kind, Name: args[1]})
	case len(args) == 1:
		return nil, nil, usagef("delete: name the kind and the name, such as: delete tap %s", args[0])
	case len(files) == 0:
		return nil, nil, usagef("delete: give -f FILE, or KIND NAME")
	}
	for _, f := range files {
		set, err := policy.Parse(f.Name, []byte(f.Text))
		if err != nil {
			return nil, nil, exit(exitUsage, err)
		}
		for _, r := range set.Resources() {
			if r.Kind == policy.KindPlatform { // by name alone
				kept = append(kept, r.Name)
				continue
			}
			out = append(out, policy.Resource{Kind: r.Kind, Name: r.Name})
		}
	}
	return out, kept, nil
}

func newTaps() *cobra.Command {
	cmd := &cobra.Command{
		Use: "taps", Short: "Pause, resume and stop taps", GroupID: "taps", Args: knownCommand,
		Long: `taps pauses, resumes and stops taps. A paused tap stays in force and copies nothing. "taps stop" ends all taps on all platforms at once; "crosstap rollback" brings them back.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, verb := range []struct{ name, use, short, example string }{
		{"pause", "pause {NAME... | --all}", "Stop copying; the policies stay", "  crosstap taps pause blue-db --why INC-4711\n  crosstap taps pause --all"},
		{"resume", "resume {NAME... | --all}", "Copy again", "  crosstap taps resume blue-db\n  crosstap taps resume --all"},
		{"stop", "stop --all", "End all taps on all platforms, and take their policies out of force", "  crosstap taps stop --all --why \"hosts are overloaded\"\n  crosstap rollback 12          # brings them back; the number of the stop is in crosstap history"},
	} {
		c := &change{}
		sub := &cobra.Command{Use: verb.use, Short: verb.short, Example: verb.example}
		c.flags(sub)
		sub.Flags().StringVar(&c.why, "why", "", "reason, for the history")
		all := sub.Flags().Bool("all", false, "all taps")
		sub.ValidArgsFunction = func(cmd *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return completeNames(cmd.Context(), &source{server: c.server}, "tap", word), cobra.ShellCompDirectiveNoFileComp
		}
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			switch {
			case verb.name == "stop" && len(args) > 0:
				return usagef("taps stop ends all taps; for one: crosstap delete tap %s", args[0])
			case len(args) == 0 && !*all:
				return usagef("taps %s: name taps, or say --all", verb.name)
			case len(args) > 0 && *all:
				return usagef("taps %s: names and --all exclude each other", verb.name)
			}
			return errors.Join(c.checkOutput(), c.make(cmd, verb.name, &controlapi.Request{Names: args, Who: author(), Why: c.why}))
		}
		cmd.AddCommand(sub)
	}
	return cmd
}
