//go:build !agent

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	farend "crosstap/internal/agent"
	"crosstap/internal/agentapi"
	"crosstap/internal/answer"
	"crosstap/internal/ask"
	"crosstap/internal/pki"
	"crosstap/internal/serve/agent"
	"crosstap/internal/tap/governor"
)

// agentList is the answer of api/v1/agents.
type agentList struct {
	Rows []agent.Agent `json:"rows"`
}

// agentRow is a line of get agents.
type agentRow struct {
	Name       string  `json:"name"`
	State      string  `json:"state"`
	Host       string  `json:"host"`
	LastSeen   string  `json:"last_seen"`
	Taps       string  `json:"taps"` // that run, of those that it was given
	Level      string  `json:"level"`
	Dropped    uint64  `json:"dropped"`
	CPU        float64 `json:"cpu"`
	Resident   string  `json:"resident"`
	Payload    bool    `json:"payload"`
	Current    bool    `json:"current"`
	Interfaces int     `json:"interfaces"`
	Findings   int     `json:"findings"`
}

type agentRows struct {
	Rows []agentRow `json:"rows"`
}

// getAgents lists the agents, or the one of a name.
func getAgents(cmd *cobra.Command, src *source, l *look, name string) error {
	var list agentList
	body, err := askAgents(cmd, src, l, "get agents", "api/v1/agents", &list)
	if err != nil {
		return err
	}
	doc := agentRows{Rows: []agentRow{}}
	for _, a := range list.Rows {
		if name == "" || a.Name == name {
			doc.Rows = append(doc.Rows, rowOf(&a, time.Now()))
		}
	}
	if len(doc.Rows) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "no agent has come yet; see: crosstap agent --help, crosstap serve --agents, crosstap token create")
	}
	return l.print(cmd.OutOrStdout(), body, &doc)
}

// rowOf sums an agent up.
func rowOf(a *agent.Agent, now time.Time) agentRow {
	r := agentRow{Name: a.Name, State: a.State, Host: a.Host, LastSeen: agentAge(a.Seen, now), CPU: a.CPU, Resident: answer.Bytes(uint64(a.Resident)), Payload: a.Payload,
		Current: a.Current, Interfaces: len(a.Interfaces), Findings: len(a.Findings), Level: "full"}
	running, worst := 0, 0
	for _, t := range a.Taps {
		if t.State == agentapi.StateRunning {
			running++
		} else {
			r.Findings++
		}
		if n := levelRank(t.Level); n > worst && t.State == agentapi.StateRunning {
			worst, r.Level = n, t.Level
		}
		for _, b := range t.Books {
			if b.Stage == "filter" || b.Stage == "handover" || b.Stage == "sample" || b.Stage == "dedup" {
				continue // on purpose
			}
			for _, d := range b.Dropped {
				if d.Reason != "filtered_in_kernel" && d.Reason != "non_ip" && d.Reason != "filtered" {
					r.Dropped += d.N
				}
			}
		}
	}
	r.Taps = fmt.Sprintf("%d/%d", running, len(a.Given))
	return r
}

func levelRank(name string) int { return max(slices.Index(governor.Names(), name), 0) }

// askAgents gets a document about agents into doc, and returns it as it came.
func askAgents(cmd *cobra.Command, src *source, l *look, command, path string, doc any) ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	c, done, err := src.open(cmd.Context())
	if err != nil {
		return nil, err
	}
	defer func() { _ = done() }() // only read
	body, err := src.get(cmd.Context(), c, path, nil)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, doc); err != nil {
		return nil, fmt.Errorf("%s: answer of %s: %w", command, c.Server(), err)
	}
	return body, nil
}

// describeAgent prints all that is known of an agent.
func describeAgent(cmd *cobra.Command, src *source, l *look, name string) error {
	var a agent.Agent
	body, err := askAgents(cmd, src, l, "describe agent", "api/v1/agents/"+name, &a)
	if err != nil {
		return err
	}
	switch l.output {
	case "json":
		_, err = cmd.OutOrStdout().Write(body)
	case "yaml":
		err = answer.YAML(cmd.OutOrStdout(), body)
	case "table", "wide":
		_, err = io.WriteString(cmd.OutOrStdout(), agentText(&a, time.Now()))
	default:
		return usagef("describe agent: -o %q: expected table, json or yaml", l.output)
	}
	return err
}

func agentText(a *agent.Agent, now time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("agent      %s, %s, seen %s", a.Name, a.State, agentAge(a.Seen, now))
	line("host       %s, %s, crosstap %s", a.Host, a.System, a.Software)
	line("cost       %.1f%% of a processor, %s resident%s", a.CPU*100, answer.Bytes(uint64(a.Resident)), budgetOf(a.Budget))
	line("payload    %s", map[bool]string{true: "allowed", false: "not allowed"}[a.Payload])
	if !a.Current && a.State == agent.Online {
		line("taps       it does not yet run what it was given")
	}
	for _, f := range a.Findings {
		line("finding    %s", f)
	}
	for _, t := range a.Taps {
		tapText(line, &t, now)
	}
	for _, i := range a.Interfaces {
		line("%s", strings.TrimSpace(fmt.Sprintf("interface  %s (%s%s%s) %s", i.Name, i.Kind, macOf(i.MAC), portOf(i.Master), strings.Join(i.Addresses, " "))))
	}
	return b.String()
}

func budgetOf(text string) string {
	if text == "" {
		return ", no budget"
	}
	return ", budget " + text
}

func macOf(address string) string {
	if address == "" {
		return "" // of lo, and of tunnels of IP
	}
	return ", " + address
}

func portOf(master string) string {
	if master == "" {
		return ""
	}
	return ", port of " + master
}

func tapText(line func(string, ...any), t *agentapi.Tap, now time.Time) {
	state := t.State
	if state == agentapi.StateRunning {
		state += " for " + now.Sub(t.Since).Round(time.Second).String()
	}
	line("tap        %s: %s, level %s; %.0f frames/s, %.1f%% CPU, %s, %s/s mirrored", t.Name, state, t.Level,
		t.Frames, t.CPU*100, answer.Bytes(uint64(t.Memory)), answer.Bytes(uint64(t.Mirror/8)))
	if t.Error != "" {
		line("           %s", t.Error)
	}
	if t.Gap > 0 {
		line("           nothing was captured for %s when it took another's place", t.Gap)
	}
	if t.Path != "" {
		line("           path %s: %s", t.Path, t.PathWhy)
	}
	if p := t.Inline; p != nil {
		pairText(line, p)
	}
	for _, s := range t.Steps {
		line("           %s %s → %s: %s", s.Time.Local().Format(time.TimeOnly), s.From, s.To, s.Why)
	}
	for _, s := range t.Books {
		line("           %-10s %s in, %s out, %d held%s (%s)", s.Stage, answer.Count(s.In+s.Made), answer.Count(s.Out), s.Held, drops(s.Dropped), s.Unit)
	}
	for _, d := range t.To {
		line("           to %s: %s %s sent, %d wait, %s shed, %s errors%s", d.URL, answer.Count(d.Sent), d.Unit, d.Queued, answer.Count(d.Shed), answer.Count(d.Errors), note(errorText(&d, now)))
	}
	for _, w := range t.Warnings {
		line("           warning: %s", w)
	}
}

// errorText says what went wrong last at a destination, when, and whether it still does.
func errorText(d *agentapi.Destination, now time.Time) string {
	switch {
	case d.Error == "" || d.ErrorAt == nil:
		return d.Error
	case d.Recovered == nil:
		return fmt.Sprintf("failing, last at %s (%s): %s", d.ErrorAt.Local().Format(time.DateTime), agentAge(d.ErrorAt, now), d.Error)
	}
	return fmt.Sprintf("well for %s; last error at %s: %s", now.Sub(*d.Recovered).Round(time.Second), d.ErrorAt.Local().Format(time.DateTime), d.Error)
}

// pairText says how the inline pair of a tap is.
func pairText(line func(string, ...any), p *agentapi.Inline) {
	line("           inline %s ⇄ %s, fail %s, links %s/%s: %s frames to %s, %s to %s; %s lost, %s refused, %s while closed, %s not watched",
		p.A, p.B, p.Fail, upDown(p.Up[0]), upDown(p.Up[1]), answer.Count(p.Frames[0]), p.B, answer.Count(p.Frames[1]), p.A,
		answer.Count(p.Lost), answer.Count(p.Refused), answer.Count(p.Closed), answer.Count(p.Unwatched))
	if p.Held != "" {
		line("           %s is held down until the other one has a signal", p.Held)
	}
}

// newAgentTaps is the command that gives taps to an agent directly.
func newAgentTaps() *cobra.Command {
	var server, token, file, ca string
	cmd := &cobra.Command{
		Use: "taps NAME [-f FILE]", Short: "Give an agent its taps, or show them", Args: cobra.ExactArgs(1),
		Long: `taps gives an agent the taps of a file, instead of those that it had. Without -f it prints them, in the form of the file. An agent that has not come yet
gets its taps when it comes. -f /dev/null takes all of them away.

The token needs the role operator.`,
		Example: `  crosstap token create --data /var/lib/crosstap --role operator > operator
  crosstap agent taps kvm-04 --server https://127.0.0.1:8475 --token operator -f taps.yaml
  crosstap agent taps kvm-04 --server https://127.0.0.1:8475 --token operator`,
		RunE: func(cmd *cobra.Command, args []string) error { return agentTaps(cmd, args[0], server, token, file, ca) },
	}
	f := cmd.Flags()
	f.StringVar(&server, "server", os.Getenv("CROSSTAP_AGENT_SERVER"), "URL of the server, as serve --agents listens")
	f.StringVar(&token, "token", "", "file with a token of role operator")
	f.StringVarP(&file, "file", "f", "", "YAML or JSON file with taps")
	f.StringVar(&ca, "ca", "", "trust these authorities (PEM) instead of the token's pin")
	return cmd
}

func agentTaps(cmd *cobra.Command, name, server, tokenFile, file, ca string) error {
	token, err := readToken(tokenFile)
	if err != nil {
		return exit(exitUsage, err)
	}
	c, err := newOperator(server, token, ca)
	if err != nil {
		return exit(exitUsage, err)
	}
	method, body := http.MethodGet, []byte(nil)
	if file != "" {
		method = http.MethodPut
		if body, err = os.ReadFile(file); err != nil {
			return exit(exitUsage, err)
		}
	}
	out, err := c.do(cmd, method, "agents/"+name+"/taps", body)
	if err != nil {
		return err
	}
	if method == http.MethodPut {
		var given struct{ State string }
		_ = json.Unmarshal(out, &given) // a server that does not say it has given the taps all the same
		fmt.Fprintf(cmd.ErrOrStderr(), "crosstap: %s\n", givenText(name, given.State))
		return nil
	}
	return answer.YAML(cmd.OutOrStdout(), out)
}

// givenText says what becomes of taps that the server has taken for an agent.
func givenText(name, state string) string {
	switch state {
	case agent.Expected:
		return fmt.Sprintf("no agent %s has ever come: it gets its taps when it does; crosstap get agents lists those that have", name)
	case agent.Lost, agent.Offline:
		return fmt.Sprintf("agent %s is away: it gets its taps when it is back; crosstap describe agent %s shows how they are", name, name)
	}
	return fmt.Sprintf("agent %s has its taps; crosstap describe agent %s shows how they are", name, name)
}

// operator speaks to the server's side of agents.
type operator struct {
	client *http.Client
	base   string
	token  agentapi.Token
}

func newOperator(server string, token agentapi.Token, ca string) (*operator, error) {
	client, base, err := farend.Client(server, token, pki.Client{CA: ca})
	return &operator{client, base, token}, err
}

func (o *operator) do(cmd *cobra.Command, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(cmd.Context(), method, o.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+o.token.Bearer())
	res, err := o.client.Do(req)
	if err != nil {
		return nil, exit(exitNoServer, err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return nil, exit(exitNoServer, err)
	}
	if res.StatusCode == http.StatusOK {
		return out, nil
	}
	p := &ask.Problem{Status: res.StatusCode}
	_ = json.Unmarshal(out, p)
	return nil, exit(problemCode(res.StatusCode), p)
}

// agentAge says how long ago something was.
func agentAge(t *time.Time, now time.Time) string {
	if t == nil {
		return "never"
	}
	return now.Sub(*t).Round(time.Second).String() + " ago"
}
