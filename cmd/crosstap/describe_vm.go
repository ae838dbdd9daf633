//go:build !agent

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/ask"
	"crosstap/internal/collect/report"
	"crosstap/internal/serve/api"
	"crosstap/internal/serve/controlapi"

	"github.com/spf13/cobra"
)

// gotNIC is an adapter of a machine of which no flow was seen.
type gotNIC struct {
	MAC     string    `json:"mac"`
	Addrs   []string  `json:"addrs"`
	Host    string    `json:"host"`
	Switch  string    `json:"switch"`
	Port    string    `json:"port"`
	Segment string    `json:"segment"`
	From    time.Time `json:"from"`  // zero: since before anybody looked
	Until   time.Time `json:"until"` // zero: still
	Taps    []string  `json:"taps"`
}

// unseen is a machine that inventory knows and flows do not.
type unseen struct {
	name, id string
	tenants  []string
	hosts    []string
	nics     []gotNIC
	taps     []string
	refusals []string
}

// describeUnseen shows a machine without flows by what inventory knows of it: where it is, its adapters, and which taps copy it. It reports
// false for a machine that has flows, and where a program reads the answer.
func (in *inquiry) describeUnseen(cmd *cobra.Command, c *ask.Client, name string, p *report.VMPage) (bool, error) {
	if in.output != "table" && in.output != "wide" || p.Meta.Total.Rows > 0 || p.Sent.Packets+p.Received.Packets > 0 {
		return false, nil
	}
	u := unseen{name: name}
	if err := u.adapters(cmd, in, c, p); err != nil {
		return false, err
	}
	if in.data == "" {
		u.ports(cmd, in, c)
	}
	why := p.Meta.Empty
	if why == nil {
		why = &report.Empty{}
	}
	switch {
	case len(u.nics) == 0 && p.Name != "":
		return false, nil // the period before knows it
	case len(u.nics) == 0:
		return false, exit(exitFinding, fmt.Errorf("describe: neither flows nor inventory have a machine %q: %s %s", name, why.Text, why.Action))
	}
	opts := in.options()
	u.print(cmd.OutOrStdout())
	fmt.Fprintln(cmd.OutOrStdout())
	if err := answer.Table(cmd.OutOrStdout(), &gotRows[gotNIC]{Rows: u.nics}, opts); err != nil {
		return false, err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "\nNo flow of it was seen in %s.\n", answer.Span(p.Meta.Until.Sub(p.Meta.Since)))
	if len(u.taps) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "No tap copies it: \"crosstap plan -f FILE\" says what one would do; \"crosstap coverage\" lists who else is not seen.")
	}
	return true, nil
}

// adapters asks where the machine is and was in the range.
func (u *unseen) adapters(cmd *cobra.Command, in *inquiry, c *ask.Client, p *report.VMPage) error {
	q := url.Values{"name": {u.name}, "from": {p.Meta.Since.Format(time.RFC3339Nano)}, "to": {p.Meta.Until.Format(time.RFC3339Nano)}}
	body, err := in.get(cmd.Context(), c, "api/v1/adapters", q)
	if err != nil {
		return err
	}
	var doc api.Adapters
	if err := json.Unmarshal(body, &doc); err != nil {
		return fmt.Errorf("describe: answer of %s: %w", c.Server(), err)
	}
	for _, r := range doc.Rows {
		if u.name != r.VM && u.name != r.VMID && !slices.Contains(r.Addrs, u.name) {
			continue
		}
		u.is(r.VM, r.Tenant, r.Host, r.Until == nil)
		u.id = r.VMID
		u.nics = append(u.nics, gotNIC{MAC: r.MAC, Addrs: r.Addrs, Host: r.Host, Switch: r.Switch, Port: r.Port, Segment: r.Segment, From: instant(r.From), Until: instant(r.Until)})
	}
	return nil
}

func instant(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// is notes what a row says of the machine.
func (u *unseen) is(name, tenant, host string, now bool) {
	u.name, u.tenants = name, add(u.tenants, tenant)
	if now {
		u.hosts = add(u.hosts, host)
	}
}

// ports asks the control line for the machine's ports and the taps that copy them. A server without one tells nothing.
func (u *unseen) ports(cmd *cobra.Command, in *inquiry, c *ask.Client) {
	quote := `"`
	if strings.Contains(u.name, quote) {
		quote = `'`
	}
	value := quote + u.name + quote
	selector := "vm = " + value + " or vm.id = " + value
	if a, err := netip.ParseAddr(u.name); err == nil {
		selector += " or ip = " + a.String()
	}
	body, err := in.get(cmd.Context(), c, "api/v1/control/match", url.Values{"select": {selector}})
	var doc controlapi.Matches
	if err != nil || json.Unmarshal(body, &doc) != nil {
		return
	}
	for _, m := range doc.Rows {
		u.is(m.VM, m.Tenant, m.Host, true)
		u.taps = add(u.taps, m.Taps...)
		if m.Reason != "" {
			u.refusals = add(u.refusals, fmt.Sprintf("%s: %s; %s", m.Reason, m.Message, m.Fix))
		}
		i := slices.IndexFunc(u.nics, func(n gotNIC) bool { return n.Until.IsZero() && n.Host == m.Host && n.Port == m.Port })
		if i < 0 {
			i = len(u.nics)
			u.nics = append(u.nics, gotNIC{MAC: m.MAC, Host: m.Host, Port: m.Port, Segment: m.Segment})
		}
		u.nics[i].Switch, u.nics[i].Taps = m.Switch, m.Taps
	}
}

// print writes what is known above the table of adapters.
func (u *unseen) print(w io.Writer) {
	line := func(name string, words ...string) {
		if text := strings.Join(words, ", "); text != "" {
			fmt.Fprintf(w, "%-10s %s\n", name, text)
		}
	}
	line("Machine", strings.TrimSpace(u.name+" "+u.id))
	line("Tenant", u.tenants...)
	line("Host", u.hosts...)
	if len(u.hosts) == 0 {
		line("Host", "none any more")
	}
	line("Taps", u.taps...)
	if len(u.taps) == 0 {
		line("Taps", "none")
	}
	for _, text := range u.refusals {
		line("Refused", text)
	}
}
