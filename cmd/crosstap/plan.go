//go:build !agent

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/control"
	"crosstap/internal/control/plan"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/nearest"
	"crosstap/internal/serve/controlapi"
	"crosstap/internal/state"

	"github.com/spf13/cobra"
)

// planned is a plan as the command line reads it.
type planned struct {
	plan.Plan
	Steps   []platform.Step `json:"steps"`
	Edits   []state.Edit    `json:"edits"`
	Removed []string        `json:"removed"`
	Undoes  []control.Later `json:"undoes"`
}

// change is what plan, diff, apply and delete have in common.
type change struct {
	controller
	files  []string
	prune  bool
	output string
	why    string
}

func (c *change) flags(cmd *cobra.Command) {
	c.controller.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&c.files, "filename", "f", nil, "file or folder with resources, - for standard input; may be given several times")
	f.BoolVar(&c.prune, "prune", false, "remove also what carries our mark and no policy explains")
	f.StringVarP(&c.output, "output", "o", "table", "format: table, json, yaml")
}

// request reads the files.
func (c *change) request(cmd *cobra.Command) (*controlapi.Request, error) {
	if err := c.checkOutput(); err != nil {
		return nil, err
	}
	files, err := readFiles(cmd, c.files)
	if err != nil {
		return nil, err
	}
	return &controlapi.Request{Files: files, Prune: c.prune, Who: author(), Why: c.why}, nil
}

func (c *change) checkOutput() error {
	switch c.output {
	case "table", "json", "yaml":
		return nil
	}
	return usagef("-o %q: expected table, json or yaml%s", c.output, nearest.Behind(c.output, []string{"table", "json", "yaml"}))
}

// print writes a document of the API in a machine's format.
func (c *change) print(w io.Writer, raw []byte) error {
	if c.output == "yaml" {
		return answer.YAML(w, raw)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}

const policyHelp = `Resources are YAML documents of the kinds Tap, Destination, Platform and Tenant (docs/guide/policies.md); the server has
their JSON Schema at /api/v1/schema/resources.json. With --platform or --state everything is done in this process, without a server.`

func newPlan() *cobra.Command {
	c := &change{}
	cmd := &cobra.Command{
		Use: "plan -f FILE", Short: "Say what policies would do: steps of each host, cost, copies, refusals", GroupID: "taps", Args: cobra.NoArgs,
		Long: `plan reads the inventory of all platforms and says what would be done so that they are as the policies want them: the exact commands of
each host, how often packets are copied, the expected rate and its cost, what does not fit the path, what is seen before and after, and
what is refused, with the reason. It changes nothing. Without -f it shows what is left to do for the policies in force.

` + policyHelp,
		Example: `  crosstap plan -f blue-db.yaml
  crosstap plan -f blue-db.yaml --platform ovs=unix:/run/openvswitch/db.sock
  crosstap plan -o json | jq '.steps[].commands[]'`,
	}
	c.flags(cmd)
	commands := cmd.Flags().Bool("commands", true, "show the commands of each step")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, raw, err := c.plan(cmd)
		if err != nil {
			return err
		}
		if c.output != "table" {
			return c.print(cmd.OutOrStdout(), raw)
		}
		printPlan(cmd.OutOrStdout(), p, *commands)
		if (len(p.Steps) > 0 || len(p.Edits) > 0 && len(p.Refusals) == 0) && len(c.files) > 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "Apply with: crosstap apply -f %s\n", strings.Join(c.files, " -f "))
		}
		return nil
	}
	return cmd
}

// plan asks for the plan of the files, and returns its document too.
func (c *change) plan(cmd *cobra.Command) (*planned, []byte, error) {
	q, err := c.request(cmd)
	if err != nil {
		return nil, nil, err
	}
	p := new(planned)
	raw, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodPost, "plan", nil, q, p)
	return p, raw, err
}

func newDiff() *cobra.Command {
	c := &change{}
	cmd := &cobra.Command{
		Use: "diff -f FILE", Short: "Say how the platforms differ from what policies want; exit code 1 when they do", GroupID: "taps", Args: cobra.NoArgs,
		Long: `diff prints what apply would change, one line for each resource and each step, and ends with exit code 1 when there is anything.

` + policyHelp,
		Example: `  crosstap diff -f blue-db.yaml
  crosstap diff || echo "somebody has changed a switch"`,
	}
	c.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, raw, err := c.plan(cmd)
		if err != nil {
			return err
		}
		if c.output != "table" {
			err = c.print(cmd.OutOrStdout(), raw)
		} else {
			printDiff(cmd.OutOrStdout(), p)
		}
		if err == nil && len(p.Steps)+len(p.Edits) > 0 {
			return exit(exitFinding, nil)
		}
		return err
	}
	return cmd
}

var editSigns = map[[2]bool]string{{false, true}: "+", {true, true}: "~", {true, false}: "-"}

var stepSigns = map[platform.Action]string{platform.Create: "+", platform.Change: "~", platform.Remove: "-"}

func printDiff(w io.Writer, p *planned) {
	for _, e := range p.Edits {
		fmt.Fprintf(w, "%s %s %s%s\n", editSigns[[2]bool{e.Before != "", e.After != ""}], strings.ToLower(e.Kind), e.Name, textAlone(&e))
	}
	for _, s := range p.Steps {
		fmt.Fprintf(w, "%s %s: %s%s\n", stepSigns[s.Action], s.Platform, s.Object, because(s.Why))
	}
}

// textAlone says of an edit that it changes comments or layout and nothing else.
func textAlone(e *state.Edit) string {
	if e.TextOnly {
		return " (its text alone)"
	}
	return ""
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// printPlan writes a plan for people.
func printPlan(w io.Writer, p *planned, commands bool) {
	for i := range p.Taps {
		printTap(w, p, &p.Taps[i], commands)
	}
	shared := stepsOf(p.Steps, func(s *platform.Step) bool {
		for _, t := range p.Taps {
			if s.Policy == t.Name {
				return false
			}
		}
		return true
	})
	if len(shared) > 0 {
		fmt.Fprintln(w, "removed or shared")
		printSteps(w, shared, commands)
	}
	printRefusals(w, p.Refusals)
	printCoverage(w, &p.Coverage)
	if len(p.Steps) == 0 && len(p.Edits) == 0 {
		fmt.Fprintln(w, "nothing to do")
	}
}

func printCoverage(w io.Writer, c *plan.Coverage) {
	if c.Ports == 0 {
		return
	}
	fmt.Fprintf(w, "coverage: %s of %d ports, now %s", share(1, c.After, c.AfterMost), c.Ports, share(1, c.Before, c.BeforeMost))
	for i, h := range c.Hosts {
		if h.After < 1 && i < 3 {
			fmt.Fprintf(w, "; %s %s", h.Host, share(0, h.After, h.AfterMost))
		}
	}
	if c.OneWay > 0 {
		fmt.Fprintf(w, "; %d in one direction only", c.OneWay)
	}
	fmt.Fprintln(w)
	printSome(w, "", c.AfterWhy)
	printSome(w, "left out: ", leftOut(c))
}

// leftOut names the ports that coverage does not weigh.
func leftOut(c *plan.Coverage) (out []string) {
	for _, p := range c.LeftOut {
		out = append(out, fmt.Sprintf("%s (%s): %s", p.VM, strings.TrimSpace(p.Host+" "+p.Port), p.Why))
	}
	return out
}

// printSome writes the first of some lines.
func printSome(w io.Writer, head string, lines []string) {
	const most = 5
	for _, text := range lines[:min(len(lines), most)] {
		fmt.Fprintf(w, "  %s%s\n", head, text)
	}
	if n := len(lines) - most; n > 0 {
		fmt.Fprintf(w, "  %sand %d more (-o json has them)\n", head, n)
	}
}

// share writes a part of the whole that is known within bounds, in percent.
func share(decimals int, least, most float64) string {
	low, high := fmt.Sprintf("%.*f", decimals, 100*least), fmt.Sprintf("%.*f", decimals, 100*most)
	if low != high {
		low += " to " + high
	}
	return low + " %"
}

func stepsOf(all []platform.Step, choose func(*platform.Step) bool) (out []platform.Step) {
	for i := range all {
		if choose(&all[i]) {
			out = append(out, all[i])
		}
	}
	return out
}

func printTap(w io.Writer, p *planned, t *plan.Tap, commands bool) {
	if t.From != "" {
		fmt.Fprintf(w, "tap/%s  %s, what comes in on %s\n", t.Name, t.State, t.From)
	} else {
		fmt.Fprintf(w, "tap/%s  %s, %d ports of %d VMs match  %s\n", t.Name, t.State, t.Ports, t.VMs, t.Select)
	}
	for _, place := range t.Places {
		on, what := place.Host, fmt.Sprintf("%d ports", place.Count)
		if place.Switch != "" {
			on += " " + place.Switch
		}
		if t.From != "" {
			what = t.From
		}
		fmt.Fprintf(w, "  %s: %s of %s > %s\n", on, place.Method, what, strings.Join(place.To, ", "))
	}
	printSteps(w, stepsOf(p.Steps, func(s *platform.Step) bool { return s.Policy == t.Name }), commands)
	if t.State == plan.Active && t.From == "" { // of what others mirror into a VLAN nothing is known here
		fmt.Fprintf(w, "  copies: %s\n", copiesText(t.Copies))
		fmt.Fprintf(w, "  cost: %s\n", costText(t.Cost))
	}
	if !t.Expires.IsZero() {
		fmt.Fprintf(w, "  ends: %s\n", t.Expires.Local().Format(time.RFC3339))
	}
	for _, text := range t.Warnings {
		fmt.Fprintf(w, "  ! %s\n", text)
	}
}

func printSteps(w io.Writer, steps []platform.Step, commands bool) {
	for _, s := range steps {
		fmt.Fprintf(w, "  %s %s: %s%s\n", stepSigns[s.Action], s.Platform, s.Summary, because(s.Why))
		if commands {
			for _, line := range s.Commands {
				fmt.Fprintf(w, "      %s\n", line)
			}
		}
	}
}

func copiesText(c plan.Copies) string {
	if c.Once {
		return "each packet once"
	}
	return fmt.Sprintf("of a packet between tapped machines %d on one switch, %d on two; to others %d, from others %d: %s", c.Same, c.Other, c.Out, c.In, c.About)
}

func costText(c plan.Cost) string {
	if !c.Known {
		return "not known: no flows of these machines are stored"
	}
	text := fmt.Sprintf("%s of copies, %s in the busiest minute, %.2f %% of a core on the busiest host (%s)", answer.Bits(c.Mirror), answer.Bits(c.Peak), 100*c.CPU, c.Rate.Of)
	if c.Budget > 0 {
		text += "; budget " + answer.Bits(c.Budget)
	}
	return text
}

func printRefusals(w io.Writer, list []platform.Refusal) {
	const most = 20
	for i, r := range list {
		if i == most {
			fmt.Fprintf(w, "refused: and %d more (-o json has all)\n", len(list)-most)
			return
		}
		fmt.Fprintf(w, "refused: %s%s\n", whereRefused(&r), refusalText(&r))
	}
}

// whereRefused is the tap and the place that a refusal is about: "tap/web on kvm-1 br-int: ".
func whereRefused(r *platform.Refusal) string {
	var parts []string
	if r.Policy != "" {
		parts = append(parts, "tap/"+r.Policy)
	}
	if place := strings.TrimSpace(r.Host + " " + r.Switch); place != "" {
		parts = append(parts, "on "+place)
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, " ") + ": "
}

// refusalText is a refusal for people: the reason, what and why, the way out, and whether copies that exist go on.
func refusalText(r *platform.Refusal) string {
	text := fmt.Sprintf("%s: %s", r.Reason, r.Message)
	if r.Fix != "" {
		text += "; " + r.Fix
	}
	if r.Kept {
		text += " (kept)"
	}
	return text
}

// kindOf is the kind that a word means, "" for none.
func kindOf(word string) string {
	for _, kind := range policy.Kinds() {
		if strings.EqualFold(word, kind) || strings.EqualFold(word, kind+"s") {
			return kind
		}
	}
	return ""
}
