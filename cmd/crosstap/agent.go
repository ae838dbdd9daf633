package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"crosstap/internal/agent"
	"crosstap/internal/agentapi"
	"crosstap/internal/obs"
	"crosstap/internal/pki"
	"crosstap/internal/privilege"
	"crosstap/internal/tapspec"
)

const agentLong = `agent runs the tap line of this host for a server: it registers, tells which interfaces there are, takes the taps that the server gives it,
and reports every few seconds what each tap saw, dropped and cost. A tap that changes goes over to its new form without losing a packet or
counting one twice.

While the server or the network is away, taps go on until their lease ends, and flows for collectors over TCP or TLS wait on the disk.
An agent that is started again meanwhile goes on, too.

Monitoring comes second: the agent runs at the lowest priority and in a control group of its own where it may, stays inside its budget
(see crosstap tap --help), gives up the rights it does not need, and never stands in the way of a packet.

The token (crosstap token create) says which server it is, and whether payload may be copied. --no-payload and --files are for the owner of this
host: whatever the server says, no payload leaves, and files are written in one folder or none.`

const agentExample = `  crosstap token create --data /var/lib/crosstap --role agent > token      on the server
  crosstap agent --server https://crosstap.example:8475 --token token
  crosstap agent --server https://10.0.0.5:8475 --token token --budget cpu=20%,memory=200MiB,mirror=100Mbit/s --user crosstap`

// agentGC has the garbage collector run when there is half as much again as is in use: flows last, and the host's memory is the applications'.
const agentGC = 50

// agentGroup is the name of the control group that an agent makes for itself.
const agentGroup = "crosstap-agent"

// agentFlags are the agent command's flags.
type agentFlags struct {
	cfg      agent.Config
	token    string
	budget   string
	files    pki.Client
	rights   privilege.Config
	metrics  string
	noLimits bool
	verbose  bool
}

func newAgent() *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use: "agent --server URL --token FILE", GroupID: "run", Short: "Run the taps of this host for a server", Long: agentLong, Example: agentExample, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.add(cmd.Flags())
	cmd.AddCommand(agentCommands()...)
	return cmd
}

func (f *agentFlags) add(fl *pflag.FlagSet) {
	env := func(name string) string { return os.Getenv("CROSSTAP_" + name) }
	fl.StringVar(&f.cfg.Server, "server", env("AGENT_SERVER"), "URL of the server, as serve --agents listens ($CROSSTAP_AGENT_SERVER)")
	fl.StringVar(&f.token, "token", env("AGENT_TOKEN"), "file with the token ($CROSSTAP_AGENT_TOKEN)")
	fl.StringVar(&f.files.CA, "ca", "", "trust these authorities (PEM) instead of the token's pin; also for proxies that look into TLS")
	fl.StringVar(&f.cfg.Name, "name", env("AGENT_NAME"), "name of the agent (default the host's)")
	fl.StringVar(&f.cfg.State, "state", "", "folder for taps and flows that outlive the process (default "+defaultAgentState()+")")
	fl.StringVar(&f.cfg.Files, "files", "", "let taps write capture files, in this folder alone")
	fl.BoolVar(&f.cfg.NoPayload, "no-payload", false, "copy no payload, whatever the server says")
	fl.StringVar(&f.budget, "budget", env("AGENT_BUDGET"), "what all taps together may cost: cpu=20%,memory=200MiB,mirror=100Mbit/s ($CROSSTAP_AGENT_BUDGET)")
	fl.DurationVar(&f.cfg.Lease, "lease", 0, "how long taps go on without the server (default what the server says)")
	fl.StringVar(&f.metrics, "metrics", "", "serve metrics at this address, such as 127.0.0.1:9474")
	fl.StringVar(&f.rights.User, "user", "", "become this user; the rights to capture are kept")
	fl.BoolVar(&f.noLimits, "no-limits", false, "keep priority and control group as they are")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "log details")
}

// run starts the agent and waits for its end.
func (f *agentFlags) run(cmd *cobra.Command) (err error) {
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads any more ends nothing
	c := &f.cfg
	c.Log, c.TLS, c.Software = obs.Logger(cmd.ErrOrStderr(), f.verbose), f.files, obs.Version().Version
	if c.State == "" {
		c.State = defaultAgentState()
	}
	if c.Token, err = readToken(f.token); err != nil {
		return exit(exitUsage, err)
	}
	if c.Server == "" {
		return usagef("agent: no server: give --server https://HOST:8475")
	}
	if f.budget != "" {
		if c.Budget, err = tapspec.ParseBudget(f.budget); err != nil {
			return exit(exitUsage, fmt.Errorf("agent: --%w", err))
		}
	}
	if c.Files != "" {
		if c.Files, err = filepath.Abs(c.Files); err != nil {
			return exit(exitUsage, err)
		}
	}
	c.Sweep, c.Keeper = func() ([]string, error) { return sweepKernel("") }, keeper()
	c.Ready = func() {
		if err := obs.Notify("READY=1"); err != nil {
			c.Log.Warn("service manager not told", "error", err)
		}
	}
	limits, err := f.confine()
	if err != nil {
		return exit(exitDenied, err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(agentGC)
	}
	defer limits.Leave()
	c.Limits = limits.Findings
	a, err := agent.New(*c)
	if err != nil {
		return exit(exitUsage, err)
	}
	if f.metrics != "" {
		stop, err := serveMetrics(cmd.Context(), f.metrics, c.Log, a.Taps)
		if err != nil {
			return exit(exitUsage, err)
		}
		defer stop()
	}
	if err := a.Run(cmd.Context()); err != nil {
		return exit(exitFinding, err)
	}
	return nil
}

// confine bounds the process and gives up rights. Folders are made before, while that is still allowed.
func (f *agentFlags) confine() (*privilege.Limits, error) {
	folders := []string{f.cfg.State}
	if f.cfg.Files != "" {
		folders = append(folders, f.cfg.Files)
	}
	l := &privilege.Limits{}
	if !f.noLimits {
		l = privilege.Confine(agentGroup, f.cfg.Budget, f.cfg.Log)
	}
	f.rights.Folders = folders
	return l, privilege.Drop(f.rights, f.cfg.Log)
}

// readToken reads a token from a file.
func readToken(path string) (agentapi.Token, error) {
	if path == "" {
		return agentapi.Token{}, errors.New("no token: give --token FILE, which crosstap token create has printed")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return agentapi.Token{}, fmt.Errorf("token: %w", err)
	}
	t, err := agentapi.ParseToken(string(b))
	if err != nil {
		return t, fmt.Errorf("token: %s: %w", path, err)
	}
	return t, nil
}

// defaultAgentState is where an agent keeps what outlives it.
func defaultAgentState() string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return filepath.SplitList(dir)[0]
	}
	if spool := defaultSpoolDir(); spool != "" {
		return filepath.Join(filepath.Dir(spool), "agent")
	}
	return ""
}
