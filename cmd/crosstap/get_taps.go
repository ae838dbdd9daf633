//go:build !agent

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/nearest"
	"crosstap/internal/serve/controlapi"

	"github.com/spf13/cobra"
)

// policyKinds are what the control line knows of policies.
var policyKinds = []string{"taps", "destinations", "policies"}

// gotTap is a tap in a list.
type gotTap struct {
	Name    string     `json:"name"`
	State   string     `json:"state"`
	Method  string     `json:"method"`
	Ports   int        `json:"ports"`
	Places  int        `json:"places"`
	Packets uint64     `json:"packets"` // copied
	Bytes   uint64     `json:"bytes"`
	Pending int        `json:"pending"` // steps until it is as wanted
	Ends    *time.Time `json:"ends"`
	Owner   string     `json:"owner"`
	By      string     `json:"by"`
	Applied time.Time  `json:"applied"`
	Select  string     `json:"select"`
}

// gotResource is any resource in force.
type gotResource struct {
	Kind       string    `json:"kind"`
	Name       string    `json:"name"`
	Owner      string    `json:"owner"`
	Reason     string    `json:"reason"`
	By         string    `json:"by"`
	Applied    time.Time `json:"applied"`
	Generation int       `json:"generation"`
	Change     int64     `json:"change"`
}

// getPolicies lists taps or resources of the server. As YAML they are what was applied.
func getPolicies(cmd *cobra.Command, src *source, l *look, kind, name string) (err error) {
	if err := l.check(); err != nil {
		return err
	}
	c := &controller{server: src.server, timeout: src.timeout}
	if kind == "taps" && l.output != "yaml" {
		var doc controlapi.Taps
		if _, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodGet, "taps", nil, nil, &doc); err != nil {
			return err
		}
		rows := tapRows(&doc, name)
		if len(rows) == 0 && name != "" {
			return noTap("get", &doc, name)
		}
		return printGot(cmd, l, rows)
	}
	q := url.Values{}
	of := map[string]string{"taps": policy.KindTap, "destinations": policy.KindDestination}[kind]
	set(q, "kind", of)
	var doc controlapi.Resources
	if _, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodGet, "resources", q, nil, &doc); err != nil {
		return err
	}
	if doc.Rows, err = onlyNamed(doc.Rows, strings.ToLower(of), name); err != nil {
		return err
	}
	if l.output == "yaml" {
		return printSources(cmd.OutOrStdout(), doc.Rows)
	}
	rows := []gotResource{}
	for _, r := range doc.Rows {
		rows = append(rows, gotResource{r.Kind, r.Name, r.Owner, r.Reason, r.By, r.Applied, r.Generation, r.Change})
	}
	return printGot(cmd, l, rows)
}

// onlyNamed returns the resources of a name, all of them when it is "".
func onlyNamed(rows []controlapi.Resource, kind, name string) ([]controlapi.Resource, error) {
	if name == "" {
		return rows, nil
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Name)
	}
	rows = slices.DeleteFunc(rows, func(r controlapi.Resource) bool { return r.Name != name })
	if len(rows) == 0 {
		return nil, notThere("get", cmp.Or(kind, "resource"), name, names)
	}
	return rows, nil
}

// printSources writes resources as they were applied, with their comments: what apply takes again.
func printSources(w io.Writer, rows []controlapi.Resource) error {
	for i, r := range rows {
		if i > 0 {
			fmt.Fprintln(w, "---")
		}
		if _, err := io.WriteString(w, r.Text); err != nil {
			return err
		}
	}
	return nil
}

// noTap says that there is no tap of a name.
func noTap(where string, doc *controlapi.Taps, name string) error {
	var names []string
	for _, t := range doc.Rows {
		names = append(names, t.Name)
	}
	return notThere(where, "tap", name, names)
}

// notThere says that there is none of a name among names.
func notThere(where, kind, name string, names []string) error {
	return exit(exitFinding, fmt.Errorf("%s: there is no %s %q%s", where, kind, name, nearest.Behind(name, names)))
}

func printGot[T any](cmd *cobra.Command, l *look, rows []T) error {
	doc := gotRows[T]{Rows: rows}
	body, err := json.Marshal(&doc)
	if err != nil {
		return err
	}
	return l.print(cmd.OutOrStdout(), append(body, '\n'), &doc)
}

func tapRows(doc *controlapi.Taps, name string) []gotTap {
	rows := []gotTap{}
	for _, t := range doc.Rows {
		if name != "" && t.Name != name {
			continue
		}
		one := gotTap{
			Name: t.Name, State: string(t.State), Method: string(t.Method), Ports: t.Ports, Places: len(t.Places), Packets: t.Copied.Packets, Bytes: t.Copied.Bytes,
			Pending: t.Steps, Owner: t.Owner, By: t.By, Applied: t.Applied, Select: t.Select,
		}
		if !t.Expires.IsZero() {
			one.Ends = &t.Expires
		}
		rows = append(rows, one)
	}
	return rows
}

// describeTap shows one tap: where it is, what it copies and costs, what is refused, its history and its text.
func describeTap(cmd *cobra.Command, src *source, name string) error {
	c := &controller{server: src.server, timeout: src.timeout}
	var doc controlapi.Taps
	if _, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodGet, "taps", nil, nil, &doc); err != nil {
		return err
	}
	i := slices.IndexFunc(doc.Rows, func(t controlapi.TapState) bool { return t.Name == name })
	if i < 0 {
		return noTap("describe", &doc, name)
	}
	var own controlapi.Resources
	if _, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodGet, "resources", url.Values{"kind": {policy.KindTap}, "name": {name}}, nil, &own); err != nil {
		return err
	}
	printTapPage(cmd.OutOrStdout(), &doc, &doc.Rows[i], own.Rows)
	return nil
}

func printTapPage(w io.Writer, doc *controlapi.Taps, t *controlapi.TapState, own []controlapi.Resource) {
	printTap(w, &planned{}, &t.Tap, false)
	for _, key := range sorted(t.Counters) {
		n := t.Counters[key]
		fmt.Fprintf(w, "  copied: %s  %s packets, %s\n", key, answer.Count(n.Packets), answer.Bytes(n.Bytes))
	}
	if t.Steps > 0 {
		fmt.Fprintf(w, "  %d steps until it is as wanted\n", t.Steps)
	}
	for _, r := range doc.Refusals {
		if r.Policy == t.Name {
			fmt.Fprintf(w, "  refused: %s\n", refusalText(&r))
		}
	}
	for _, f := range doc.Findings {
		if f.Policy == t.Name {
			by := ""
			if f.By != "" {
				by = ", changed by " + f.By
			}
			fmt.Fprintf(w, "  not as wanted on %s since %s: %s: %s%s\n", f.Platform, f.Since.Local().Format(time.RFC3339), f.Object, f.What, by)
		}
	}
	for _, g := range doc.Gaps {
		if g.Policy == t.Name {
			fmt.Fprintf(w, "  followed to %s port %s after %s, %s\n", g.Platform, g.Port, g.After.Round(time.Millisecond), missedText(&g))
		}
	}
	for _, r := range own {
		fmt.Fprintf(w, "applied %s by %s, change %d, generation %d\n\n%s", r.Applied.Local().Format(time.RFC3339), r.By, r.Change, r.Generation, strings.TrimLeft(r.Text, "\n"))
	}
}

// missedText says what a tool has missed of a machine that moved.
func missedText(g *platform.Gap) string {
	why := ""
	if g.Why != "" {
		why = ": " + g.Why
	}
	switch {
	case g.Packets < 0:
		return "packets missed not counted" + why
	case g.Exact():
		return fmt.Sprintf("%d packets missed", g.Packets)
	}
	return fmt.Sprintf("%d–%d packets missed%s", g.Least, g.Packets, why)
}

func sorted[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
