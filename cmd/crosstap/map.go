//go:build !agent

package main

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/ask"
	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
)

func newMap() *cobra.Command {
	in := &inquiry{report: "map", one: "edge", doc: func() any { return new(report.Map) }, columnNames: answer.Columns[report.MapEdge](), look: look{files: []string{"svg", "dot", "mermaid", "parquet", "nft"}}}
	cmd := in.command("map [FILTER...]", "Show who depends on whom: groups of machines and the services between them",
		`map shows edges from clients to servers between groups of machines, by default of one tenant and tier (the letters that a machine's
name begins with). --expand shows the members of a group, --focus only what is near a node. With --base a period is compared
with: edges are new or gone. -o svg draws it, the same picture each time; -o dot and -o mermaid are for other tools.

--allow shows what a firewall would have to allow for all that was seen, one row for each client, server and port; with -o nft a
rule set for nftables to start from.`,
		`  crosstap map --since 24h
  crosstap map --since 24h -o svg > map.svg
  crosstap map --expand blue/web --focus blue/db --hops 2
  crosstap map --since 24h --base 7d --until now
  crosstap map --allow --since 30d tenant = blue -o nft`, "1h")
	f := cmd.Flags()
	by := f.StringSlice("by", nil, "what to group by: tenant, tier, host, segment, fabric, app, vm (default tenant,tier)")
	expand := f.StringSlice("expand", nil, "groups that are shown by their members, such as blue/web")
	focus := f.String("focus", "", "only what is near this group or member")
	hops := f.Int("hops", 0, "how near (default 1)")
	base := f.String("base", "", "compare with the time before the range: a length such as 7d, or \"FROM/TO\"")
	allow := f.Bool("allow", false, "what a firewall would have to allow")
	f.StringVar(&in.sort, "sort", "", "with --allow: column to sort by")
	resolution := resolutionFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions(report.MapGroupings(), cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRun = func(*cobra.Command, []string) {
		in.files = []string{"svg", "dot", "mermaid", "parquet"}
		if *allow {
			in.report, in.one, in.doc, in.columnNames, in.files = "allow-list", "rule", func() any { return new(report.AllowList) }, answer.Columns[report.AllowRow](), []string{"nft", "parquet"}
		}
	}
	in.extra = func(q url.Values) error {
		if err := resolution(q); err != nil || *allow {
			return err
		}
		q["by"], q["expand"] = *by, *expand
		set(q, "focus", *focus)
		if *hops != 0 {
			q.Set("hops", strconv.Itoa(*hops))
		}
		return in.base(q, *base)
	}
	return cmd
}

// base sets the period to compare with.
func (in *inquiry) base(q url.Values, text string) error {
	if text == "" {
		return nil
	}
	from, to, two := cutRange(text)
	if !two {
		span, err := ask.ParseSpan(text)
		if err != nil {
			return usagef("--base: %w", err)
		}
		since, err := ask.ParseTime(q.Get("from"), time.Now())
		if err != nil {
			return usagef("--since: %w", err)
		}
		q.Set("base_from", since.Add(-span).Format(time.RFC3339Nano))
		q.Set("base_to", since.Format(time.RFC3339Nano))
		q.Set("from", since.Format(time.RFC3339Nano)) // one moment for both
		return nil
	}
	for name, text := range map[string]string{"base_from": from, "base_to": to} {
		t, err := ask.Moment(text, time.Now(), in.options().Location)
		if err != nil {
			return usagef("--base: %w", err)
		}
		q.Set(name, t)
	}
	return nil
}

// cutRange cuts "FROM/TO".
func cutRange(s string) (from, to string, ok bool) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func newCoverage() *cobra.Command {
	in := &inquiry{report: "coverage", one: "row", doc: func() any { return new(report.Coverage) }, columnNames: answer.Columns[report.CoverageRow](), look: look{files: []string{"parquet"}}}
	cmd := in.command("coverage", "Show what is not seen, and why: observed traffic against the hypervisors' own counters",
		`coverage compares, for each machine or host, the layer-2 bytes that flows tell of with those that the hypervisor's counters of its virtual
adapters tell. What has no counter is unknown, never 100 %. Exit code 1 when --min is not met or not known.`,
		`  crosstap coverage --since 1h
  crosstap coverage --by host --min 95`, "1h")
	cmd.Args = cobra.NoArgs
	f := cmd.Flags()
	by := f.String("by", "vm", "vm or host")
	least := f.Float64("min", 0, "per cent that must be observed; less, or not known, is exit code 1")
	resolution := resolutionFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"vm", "host"}, cobra.ShellCompDirectiveNoFileComp))
	in.extra = func(q url.Values) error {
		q.Set("by", *by)
		return resolution(q)
	}
	in.judge = func(doc any) error {
		c, ok := doc.(*report.Coverage)
		switch {
		case !ok || *least == 0:
			return nil
		case c.Ratio == nil:
			return exit(exitFinding, fmt.Errorf("coverage is not known: %s", c.Reason))
		case *c.Ratio*100 < *least:
			return exit(exitFinding, fmt.Errorf("coverage is %s, less than %g %%", answer.Percent(*c.Ratio), *least))
		}
		return nil
	}
	return cmd
}
