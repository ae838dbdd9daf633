//go:build !agent

package main

import (
	"net/url"
	"slices"
	"strings"

	"crosstap/internal/answer"
	"crosstap/internal/ask"
	"crosstap/internal/collect/report"
	"crosstap/internal/nearest"

	"github.com/spf13/cobra"
)

// kinds of get, with the report that answers and other words for them.
var kinds = []struct {
	name, report string
	aliases      []string
}{
	{"vms", "vms", []string{"vm"}}, {"hosts", "hosts", []string{"host"}}, {"vteps", "vteps", []string{"vtep"}}, {"tenants", "tenants", []string{"tenant"}},
	{"apps", "apps", []string{"app"}}, {"vnis", "networks", []string{"vni", "networks", "network", "segments"}},
}

func kindNames() []string {
	var out []string
	for _, k := range kinds {
		out = append(out, k.name)
	}
	return out
}

func newGet() *cobra.Command {
	in := &inquiry{columnNames: answer.Columns[report.Thing](), look: look{files: []string{"parquet"}}}
	name := ""
	cmd := in.command("get KIND [NAME]", "List machines, hosts, switches, ports, tenants, applications …, by flows or by platforms",
		`get lists what the flows of the time range know of one kind: vms, hosts, vteps, tenants, apps or vnis. With a NAME only the one of
that name, id or address. Exporters are listed by "crosstap exporters". get agents lists the agents of taps.

Of the server's control line it lists taps (where they are and what they have copied), destinations, policies (every resource in force), and as
coverage what taps see of the machines of each host.
-o yaml gives these as they were applied, with their comments: what "crosstap apply" takes.
Of platforms it lists switches, ports, mirrors (everything that copies or could copy packets, ours and foreign) and platforms: those
of the server, or with --platform KIND=ADDRESS one that is read now, without a server; then vms and hosts are its own too.`,
		`  crosstap get vms --since 24h
  crosstap get vms web-1 -o json
  crosstap get hosts --sort -peers
  crosstap get vnis --filter 'tenant = blue'
  crosstap get tap blue-db -o yaml > blue-db.yaml
  crosstap get vms --platform linux=
  crosstap get ports --platform libvirt=qemu+ssh://root@kvm-4/system -o wide`, "24h")
	cmd.Args = cobra.RangeArgs(1, 2)
	in.sortFlags(cmd)
	filter := cmd.Flags().String("filter", "", "flow filter")
	resolution := resolutionFlag(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return completeNames(cmd.Context(), &in.source, args[0], word), cobra.ShellCompDirectiveNoFileComp
		}
		if len(args) > 1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.Concat(kindNames(), policyKinds, []string{"coverage"}, platformKinds), cobra.ShellCompDirectiveNoFileComp
	}
	platforms := cmd.Flags().StringArray("platform", nil, "read this platform now: [NAME@]KIND=ADDRESS, such as linux= or ovs=unix:/run/openvswitch/db.sock; may be given several times")
	in.extra = func(q url.Values) error {
		set(q, "name", name)
		return resolution(q)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k := strings.ToLower(args[0])
		if k == "agents" || k == "agent" {
			return getAgents(cmd, &in.source, &in.look, strings.Join(args[1:], ""))
		}
		if k == "coverage" {
			return getCoverage(cmd, &in.source, &in.look, strings.Join(args[1:], ""))
		}
		if one := strings.Replace(strings.TrimSuffix(k, "s")+"s", "policys", "policies", 1); slices.Contains(policyKinds, one) {
			return getPolicies(cmd, &in.source, &in.look, one, strings.Join(args[1:], ""))
		}
		if kind, theirs := ofPlatforms(k, *platforms); theirs {
			return getOfPlatforms(cmd, &in.source, &in.look, *platforms, kind, strings.Join(args[1:], ""))
		}
		if len(*platforms) > 0 {
			return usagef("get: platforms know vms, hosts, %s; not %q", strings.Join(platformKinds, ", "), k)
		}
		i := slices.IndexFunc(kinds, func(one struct {
			name, report string
			aliases      []string
		}) bool {
			return one.name == k || slices.Contains(one.aliases, k)
		})
		if i < 0 {
			all := slices.Concat(kindNames(), policyKinds, []string{"coverage"}, platformKinds)
			return usagef("get: there is no kind %q; kinds: %s%s", args[0], strings.Join(all, ", "), nearest.Behind(k, all))
		}
		in.report, in.one, in.filter = kinds[i].report, strings.TrimSuffix(kinds[i].name, "s"), *filter
		in.doc = func() any { return new(report.Things) }
		if len(args) > 1 {
			name = args[1]
		}
		if in.report == "networks" {
			in.doc, name = func() any { return new(report.Networks) }, ""
			if len(args) > 1 {
				in.filter = strings.TrimPrefix(in.filter+" and vni = "+args[1], " and ")
			}
		}
		return in.run(cmd)
	}
	return cmd
}

func newDescribe() *cobra.Command {
	in := &inquiry{report: "vm", one: "peer", doc: func() any { return new(report.VMPage) }, columnNames: answer.Columns[report.Peer](), look: look{files: []string{"parquet"}}}
	name, base := "", ""
	cmd := in.command("describe vm NAME", "Show one machine: bytes sent and received, peers, services, where it is, what changed",
		`describe vm shows a machine by its name, stable id or address: bytes sent and received in the past 24 hours (--since) and in the time
before, its peers, the services that it serves and uses, the hosts and addresses it had, and what is new or gone against
the time before. -o json has it all; csv, jsonl and parquet have the peers. Of a machine without flows it says where it is, its adapters and
which taps copy it, as the inventory has it.

describe tap NAME shows a tap: where it copies and what, what is refused, how it followed machines, and its text.
describe agent NAME shows an agent: its host, its taps with their books, levels and destinations, and its interfaces.
describe platform, host, switch, port or mirror NAME shows what its platform tells of it: what a switch can do, which taps copy a port, whose a
mirror is and how it stands on the switch.`,
		`  crosstap describe vm web-1
  crosstap describe vm 10.0.0.5 --since 7d --filter 'vni = 5001'
  crosstap describe vm web-1 --base 7d -o json`, "24h")
	cmd.Args = cobra.ExactArgs(2)
	f := cmd.Flags()
	filter := f.String("filter", "", "flow filter")
	f.StringVar(&base, "base", "", "compare with the time before the range: a length such as 7d, or \"FROM/TO\" (default as long as the range)")
	resolution := resolutionFlag(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return append([]cobra.Completion{"vm", "tap", "agent"}, describedWords...), cobra.ShellCompDirectiveNoFileComp
		case 1:
			return completeNames(cmd.Context(), &in.source, args[0], word), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	in.extra = func(q url.Values) error {
		q.Set("name", name)
		if err := in.base(q, base); err != nil {
			return err
		}
		return resolution(q)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k := strings.ToLower(args[0])
		if k == "agent" || k == "agents" {
			return describeAgent(cmd, &in.source, &in.look, args[1])
		}
		if k == "tap" || k == "taps" {
			return describeTap(cmd, &in.source, args[1])
		}
		if kind, _ := ofPlatforms(k, nil); slices.Contains(describedKinds, kind) {
			return describeOfPlatforms(cmd, &in.source, &in.look, kind, args[1])
		}
		if k != "vm" && k != "vms" {
			return usagef("describe: there is no page for %q; there is one for vm, tap, agent, %s; \"crosstap get %s\" lists", args[0], strings.Join(describedWords, ", "), args[0])
		}
		name, in.filter = args[1], *filter
		in.instead = func(cmd *cobra.Command, c *ask.Client, doc any) (bool, error) {
			return in.describeUnseen(cmd, c, name, doc.(*report.VMPage))
		}
		return in.run(cmd)
	}
	return cmd
}
