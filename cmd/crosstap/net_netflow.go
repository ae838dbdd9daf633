package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"crosstap/internal/obs"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/meter"
	"crosstap/internal/tap/netnetflow"
)

const netNetflowLong = `net-netflow meters whole switches and sends their flows to a collector as NetFlow v5, with the flags that the program of this name
had on ESX Server 3.5. Switches are Linux bridges and Open vSwitch bridges, by name. All their ports are metered, also those that come
later; a packet is counted once, at the port where it enters the switch. A flow ends after 15 s without a packet, one that lasts is
reported every 300 s. A switch that is not there ends the program at once; one that is deleted later is waited for.

Each switch has a number, the same after a restart. It is the engine type and id of the switch's datagrams; flows of two switches are
never in one. With -p, interface numbers are 7 bits of switch and 9 bits of port: port 13 of switch 3 is 1549.

Finished flows wait in a queue until they are sent, every second or as often as -s says. What finds no room is lost and
counted; a lower -s helps. When the collector's host answers that nobody listens, that is reported again and again, and sending goes on.

The whole historic command line may be given: vmkload_app -i vmktcp /usr/lib/vmware/bin/net-netflow -e vSwitch0 HOST.

Other formats are URLs: netflow9://HOST, ipfix://HOST (also for IPv6), and more as for tap. One instance runs at a time; --change gives it
another set of switches without a break in those that stay. SIGINT and SIGTERM end it: what is in the flow caches is sent.
Capturing needs CAP_NET_RAW.`

const netNetflowExamples = `  crosstap net-netflow -e vSwitch0,prod1 10.0.0.9
  crosstap net-netflow -e br0 -s 100 -p -v collector.example:9995
  crosstap net-netflow -S -e br-int 'ipfix://10.0.0.9' 'netflow9://10.0.0.8:9996'
  crosstap net-netflow --change -e br0,br1
  crosstap net-netflow --status`

// netNetflowFlags are the command's flags.
type netNetflowFlags struct {
	cfg            netnetflow.Config
	switches       []string
	period         int
	ids            map[string]int
	ring           byteSize
	key            string
	runDir         string
	log            string
	verbose        bool
	daemon         bool
	check          bool
	change, status bool
}

func newNetNetflow() *cobra.Command {
	f := netNetflowFlags{cfg: netnetflow.DefaultConfig()}
	cmd := &cobra.Command{
		Use:                "net-netflow -e SWITCH,... HOST[:PORT]",
		GroupID:            "run",
		Short:              "Meter whole switches to a NetFlow collector, as ESX Server 3.5 did",
		Long:               netNetflowLong,
		Example:            netNetflowExamples,
		DisableFlagParsing: true, // the historic line has flags of its loader
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := netnetflow.Historic(args)
			if err != nil {
				return exit(exitUsage, err)
			}
			flags := cmd.Flags()
			if err := flags.Parse(args); err != nil {
				return unknownFlag(cmd, err)
			}
			if help, _ := flags.GetBool("help"); help {
				return cmd.Help()
			}
			return f.run(cmd, flags.Args())
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func (n *netNetflowFlags) add(f *pflag.FlagSet) {
	c := &n.cfg
	f.StringArrayVarP(&n.switches, "export", "e", nil, "switches, with commas between their names (repeatable)")
	f.IntVarP(&n.period, "period", "s", int(c.Period.Milliseconds()), "polling period: send finished flows every so many milliseconds")
	f.BoolVarP(&c.PortIDs, "port-ids", "p", false, "write interfaces as 7 bits of switch and 9 bits of port")
	f.BoolVarP(&n.verbose, "verbose", "v", false, "sum up what was sent, on standard output")
	f.BoolVarP(&n.daemon, "daemon", "S", false, "run without the console; print the process number")
	f.DurationVar(&c.Idle, "idle", c.Idle, "end a flow after this time without a packet")
	f.DurationVar(&c.Active, "active", c.Active, "report a flow that lasts after each such time")
	f.StringVar(&n.key, "key", c.Key.String(), "of a frame with a tunnel meter this packet: outer, inner or both")
	f.Uint32Var(&c.Sampling, "sampling", 1, "meter one frame in so many")
	f.IntVar(&c.Queue, "queue", c.Queue, "finished flows of a switch that may wait for the next poll")
	f.IntVar(&c.MaxFlows, "max-flows", c.MaxFlows, "flows in the cache of a switch at most; beyond it the quietest end early")
	n.ring = byteSize(c.RingBytes)
	f.Var(&n.ring, "ring", "memory of each port's ring")
	f.IntVar(&c.SnapLen, "snap", c.SnapLen, "keep this many bytes of each frame")
	f.StringToIntVar(&n.ids, "switch-id", nil, "choose the number of a switch: NAME=N")
	f.StringVar(&c.StateFile, "state", c.StateFile, "file that keeps the numbers of the switches")
	f.StringVar(&n.runDir, "run-dir", "/run/crosstap", "folder of the running instance's lock and socket")
	f.StringVar(&c.OVSDB, "ovsdb", c.OVSDB, "Open vSwitch database: unix:PATH or tcp:HOST:PORT")
	f.StringVar(&c.NetNS, "netns", "", "file of the network namespace that the switches are in")
	f.StringVar(&n.log, "log", "", "with -S, write messages to this file (default: net-netflow.log beside the lock)")
	f.DurationVar(&c.Report, "report", c.Report, "how often losses are reported while they last")
	f.BoolVar(&n.check, "check", false, "find switches and collectors, print what would be metered, and end")
	f.BoolVar(&n.change, "change", false, "give the running instance these switches")
	f.BoolVar(&n.status, "status", false, "print the state of the running instance")
}

func (n *netNetflowFlags) run(cmd *cobra.Command, collectors []string) error {
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads any more ends nothing
	c := &n.cfg
	c.Switches = nil
	if len(n.switches) > 0 {
		c.Switches = netnetflow.Switches(n.switches)
	}
	if n.change || n.status {
		return n.ask(cmd, collectors)
	}
	if err := n.complete(cmd, collectors); err != nil {
		return err
	}
	m, err := netnetflow.New(*c)
	if err != nil {
		fmt.Fprint(cmd.ErrOrStderr(), cmd.UsageString())
		return exit(exitUsage, err)
	}
	switch {
	case n.check:
		return n.checkAll(cmd, m)
	case n.daemon && !isDaemon():
		return n.ended(startDaemon(cmd, n.logFile()))
	}
	return n.meter(cmd, m)
}

func (n *netNetflowFlags) logFile() string {
	if n.log != "" {
		return n.log
	}
	return n.runDir + "/net-netflow.log"
}

// complete turns the flags into the configuration.
func (n *netNetflowFlags) complete(cmd *cobra.Command, collectors []string) (err error) {
	c := &n.cfg
	for _, s := range collectors {
		t, err := netnetflow.Collector(s)
		if err != nil {
			return exit(exitUsage, err)
		}
		c.Targets = append(c.Targets, t)
	}
	if c.Key, err = meter.ParseKey(n.key); err != nil {
		return exit(exitUsage, err)
	}
	c.Period, c.RingBytes, c.IDs = time.Duration(n.period)*time.Millisecond, int(n.ring), n.ids
	c.Log = obs.Logger(cmd.ErrOrStderr(), false)
	c.Ready = func() {
		daemonReady()
		if err := obs.Notify("READY=1"); err != nil {
			c.Log.Warn("service manager not told", "error", err)
		}
	}
	if n.verbose {
		c.Summary = cmd.OutOrStdout()
	}
	return nil
}

// meter runs until a signal.
func (n *netNetflowFlags) meter(cmd *cobra.Command, m *netnetflow.Meter) error {
	instance, err := netnetflow.Claim(n.runDir)
	if err != nil {
		return n.ended(exit(exitRefused, err))
	}
	defer instance.Release()
	for _, t := range n.cfg.Targets {
		if fatal, err := netnetflow.Reach(cmd.Context(), t); fatal {
			return exit(exitUsage, err)
		} else if err != nil {
			n.cfg.Log.Warn("the collector cannot be reached now; trying on", "error", err)
		}
	}
	serve, cancel := context.WithCancel(context.WithoutCancel(cmd.Context())) // until all is sent
	defer cancel()
	served := make(chan struct{})
	go func() { defer close(served); instance.Serve(serve, m) }()
	err = m.Run(cmd.Context())
	cancel()
	<-served
	for _, s := range m.Status() {
		fmt.Fprintln(cmd.ErrOrStderr(), "crosstap: net-netflow:", s.Summary())
	}
	if err == nil || errors.Is(err, context.Canceled) && cmd.Context().Err() != nil { // a signal, also while it starts
		return nil
	}
	return n.ended(exit(exitUsage, err))
}

// ended adds to an error of missing rights which ones the program needs, and what does without.
func (n *netNetflowFlags) ended(err error) error {
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	return exit(exitDenied, fmt.Errorf("%w: run as root; or as another user give the program the right to capture, once, by \"setcap cap_net_raw+ep\", "+
		"and with --run-dir and --state folders that you may write to (now %s and %s)", err, n.runDir, n.cfg.StateFile))
}

// ask talks to the running instance.
func (n *netNetflowFlags) ask(cmd *cobra.Command, collectors []string) error {
	if len(collectors) > 0 {
		return usagef("net-netflow: --change and --status take no collector: that of the running instance stays")
	}
	if n.change == (len(n.cfg.Switches) == 0) {
		return usagef("net-netflow: --change wants -e SWITCH,..., --status takes none")
	}
	all, err := netnetflow.Ask(cmd.Context(), n.runDir, n.cfg.Switches)
	if err != nil {
		return exit(exitFinding, err)
	}
	for _, s := range all {
		printSwitch(cmd.OutOrStdout(), &s)
	}
	return nil
}

func printSwitch(w io.Writer, s *netnetflow.Status) {
	gone := ""
	if s.Gone {
		gone = " (deleted)"
	}
	fmt.Fprintf(w, "%s, number %d%s\n", s.Summary(), s.ID, gone)
	var ports []string
	for _, p := range s.Ports {
		ports = append(ports, fmt.Sprintf("%s %d", p.Name, p.Number))
	}
	fmt.Fprintf(w, "  ports: %s\n", strings.Join(ports, ", "))
	for _, c := range s.Collectors {
		fmt.Fprintf(w, "  %s: %d messages, %d refused, %d not sent %s\n", c.URL, c.Messages, c.Refused, c.Failed, c.LastError)
	}
	for _, b := range s.Books {
		fmt.Fprintf(w, "  %s: %d %s in, %d out", b.Stage, b.In, b.Unit, b.Out)
		if b.Held > 0 {
			fmt.Fprintf(w, ", %d held", b.Held)
		}
		for _, d := range b.Dropped {
			if d.N > 0 {
				fmt.Fprintf(w, ", %d %s", d.N, d.Reason)
			}
		}
		fmt.Fprintln(w)
	}
}

// checkAll prints what would be metered.
func (n *netNetflowFlags) checkAll(cmd *cobra.Command, m *netnetflow.Meter) error {
	all, err := m.Check(cmd.Context())
	for _, f := range all {
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s, number %d: ports %s\n", f.Kind, f.Name, f.ID, strings.Join(f.Ports, ", "))
		for _, d := range f.Dark {
			fmt.Fprintf(cmd.OutOrStdout(), "  not metered: %s\n", d)
		}
	}
	if err != nil {
		return n.ended(exit(exitUsage, err))
	}
	return n.reachAll(cmd, n.cfg.Targets)
}

func (n *netNetflowFlags) reachAll(cmd *cobra.Command, targets []export.Target) error {
	var failed error
	for _, t := range targets {
		if _, err := netnetflow.Reach(cmd.Context(), t); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: there is a way\n", t)
	}
	if failed != nil {
		return exit(exitFinding, failed)
	}
	return nil
}
