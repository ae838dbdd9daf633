//go:build !agent

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"crosstap/internal/answer"
	"crosstap/internal/control/plan"
	"crosstap/internal/control/platform"
	"crosstap/internal/serve/controlapi"

	"github.com/spf13/cobra"
)

// sketch is a tap of which only what decides what it may see is given.
type sketch struct {
	controller
	look
	files               []string
	exclude, tenant     string
	destinations, allow []string
	limit               int
}

// matchColumns are those of the narrow table.
var matchColumns = []string{"vm", "host", "switch", "port", "segment", "tenant", "taps", "reason"}

func newMatch() *cobra.Command {
	m := &sketch{}
	cmd := &cobra.Command{
		Use: "match SELECTOR...", Short: "List what a selector finds now, which taps copy it, and what would be refused", GroupID: "taps", Args: cobra.MinimumNArgs(1),
		Long: `match lists the ports that a tap with this selector would copy now, with their machines, hosts and the taps that copy them already; and those
that it names and would not copy, with the reason and the way out. It looks at ports alone: what switches can do, what it costs and
whether each packet is copied once is for "crosstap plan" to say. Selectors are described in docs/formats/policy.md.

With -f it counts in Tenant, Destination and Platform resources that are not in force yet. Exit code 1 says that nothing would be copied.`,
		Example: `  crosstap match 'tenant = "blue" and vm like "db-%"'
  crosstap match vm = web-1 --destination ids --tenant blue
  crosstap match port = vnet3 --platform ovs=unix:/run/openvswitch/db.sock -o wide`,
		RunE: func(cmd *cobra.Command, args []string) error { return m.run(cmd, strings.Join(args, " ")) },
	}
	m.controller.flags(cmd)
	m.look.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&m.files, "filename", "f", nil, "file or folder with resources that are not in force yet, - for standard input; may be given several times")
	f.StringVar(&m.exclude, "exclude", "", "selector of what is left out")
	f.StringVar(&m.tenant, "tenant", "", "only machines of that tenant may be seen")
	f.StringArrayVar(&m.destinations, "destination", nil, "destination that copies would go to; may be given several times")
	f.StringArrayVar(&m.allow, "allow", nil, "allowance of the tap, such as uplinks; may be given several times")
	f.IntVar(&m.limit, "limit", 0, "ports at most (default 200)")
	_ = cmd.RegisterFlagCompletionFunc("columns", cobra.FixedCompletions(answer.Columns[plan.Match](), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (m *sketch) run(cmd *cobra.Command, selector string) error {
	if err := m.check(); err != nil {
		return err
	}
	q := url.Values{"select": {selector}, "destination": m.destinations, "allow": m.allow}
	set(q, "exclude", m.exclude)
	set(q, "tenant", m.tenant)
	if m.limit != 0 {
		q.Set("limit", strconv.Itoa(m.limit))
	}
	files, err := readFiles(cmd, m.files)
	if err != nil {
		return err
	}
	method, body := http.MethodGet, (*controlapi.Request)(nil)
	if len(files) > 0 || len(m.platforms) > 0 {
		method, body = http.MethodPost, &controlapi.Request{Files: files}
	}
	var doc controlapi.Matches
	raw, err := m.call(cmd.Context(), cmd.ErrOrStderr(), method, "match", q, body, &doc)
	if err != nil {
		return err
	}
	if m.output == "table" && len(m.columns) == 0 {
		m.columns = matchColumns
	}
	if err := m.print(cmd.OutOrStdout(), raw, &doc); err != nil {
		return err
	}
	if m.output != "json" && m.output != "yaml" {
		printMatches(cmd.ErrOrStderr(), &doc)
	}
	if doc.Ports == 0 {
		return exit(exitFinding, fmt.Errorf("match: nothing would be copied%s", because(doc.Hint)))
	}
	return nil
}

// printMatches writes what stands under the table: what is refused and why, and how much was found.
func printMatches(w io.Writer, doc *controlapi.Matches) {
	var refused []platform.Refusal
	for _, r := range doc.Rows {
		if r.Reason != "" {
			refused = append(refused, platform.Refusal{Host: r.Host, Switch: r.Switch, Reason: r.Reason, Message: r.Message, Fix: r.Fix})
		}
	}
	printRefusals(w, refused)
	for _, name := range doc.Lost {
		fmt.Fprintf(w, "platform %s does not answer: what it has is not looked at, or old\n", name)
	}
	text := fmt.Sprintf("%s of %s on %s would be copied, of %d that are known", answer.Plural(uint64(doc.Ports), "port"), answer.Plural(uint64(doc.VMs), "machine"), answer.Plural(uint64(doc.Hosts), "host"), doc.Known)
	if doc.Refused > 0 {
		text += fmt.Sprintf("; %d refused", doc.Refused)
	}
	if n := doc.Ports + doc.Refused; n > len(doc.Rows) {
		text += fmt.Sprintf("; %d of %d shown (--limit)", len(doc.Rows), n)
	}
	fmt.Fprintln(w, text)
}
