//go:build linux && !agent

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"crosstap/internal/lab"

	"github.com/spf13/cobra"
)

// meterTimeout is the idle and active timeout of the demo's taps.
const meterTimeout = 2 * time.Second

// demo is the demo command's flags.
type demo struct {
	http     string
	data     string
	keep     bool
	duration time.Duration
	check    bool
	offloads string
	quiet    bool
	verbose  bool
}

func newDemo() *cobra.Command {
	d := demo{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Build a lab of six virtual machines in two tenants and watch it",
		Long: `demo makes two hosts out of network namespaces, joined by VXLAN, with two tenants that use the same inner
addresses (VNI 5001 and 5002) and six VMs running real clients and servers. It taps them at three kinds of
place (a vSwitch port mirror, a tunnel endpoint, inside a VM) and serves the console.

It runs as root, or as any user where unprivileged user namespaces are allowed. All of it lives in one process namespace:
when demo ends, for whatever reason, no process, namespace, interface or file is left.

Ctrl-C ends it: exit code 0. A second Ctrl-C does not wait for an orderly end: 130. With --check, Ctrl-C ends the
traffic and the comparison is still made; exit code 1 when what is shown differs from what was sent.`,
		Example: `  crosstap demo
  crosstap demo --for 30s --check
  sudo crosstap demo --http 127.0.0.1:9000 --data /tmp/demo --keep`,
		GroupID: "run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.validate(); err != nil {
				return err
			}
			return d.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.http, "http", "127.0.0.1:8474", "address of the console; port 0 takes a free one")
	f.DurationVar(&d.duration, "for", 0, "end by itself after this time of traffic; 0 runs until Ctrl-C")
	f.BoolVar(&d.check, "check", false, "compare what is shown with what the VMs sent, by the word of tcpdump and tshark")
	f.StringVar(&d.offloads, "offloads", "off", "on: the kernel passes super-frames and partial checksums, as between real VMs")
	f.StringVar(&d.data, "data", "", "directory of the store, new or empty (default a new one in the temporary directory)")
	f.BoolVar(&d.keep, "keep", false, "leave the directory at the end")
	f.BoolVarP(&d.quiet, "quiet", "q", false, "print errors and the check's findings only")
	f.BoolVarP(&d.verbose, "verbose", "v", false, "also print what the lab's first process logs")
	_ = cmd.RegisterFlagCompletionFunc("offloads", cobra.FixedCompletions([]string{"off", "on"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// newLab has the processes that the demo starts inside the lab.
func newLab() *cobra.Command {
	cmd := &cobra.Command{Use: "lab", Short: "Processes of the demo's lab", Hidden: true}
	cmd.AddCommand(
		&cobra.Command{
			Use: "init", Short: "Process 1 of the lab", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return code(lab.Init()) },
		},
		&cobra.Command{
			Use: "vm", Short: "The programs of one VM", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return code(lab.RunVM(cmd.Context(), cmd.OutOrStdout()))
			},
		},
	)
	return cmd
}

// code gives an error of the lab its exit code.
func code(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, lab.ErrDenied):
		return exit(exitDenied, err)
	}
	var coded *exitError
	if errors.As(err, &coded) {
		return err
	}
	return exit(exitFinding, err)
}

func (d *demo) validate() error {
	if d.offloads != "on" && d.offloads != "off" {
		return usagef("demo: --offloads %q: expected on or off", d.offloads)
	}
	if d.duration < 0 {
		return usagef("demo: --for %v: must not be negative", d.duration)
	}
	if !d.check {
		return nil
	}
	var missing []string
	for _, tool := range []string{"tcpdump", "tshark"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if len(missing) > 0 {
		return usagef("demo: --check: %s not installed: apt-get install %s", strings.Join(missing, " and "), strings.Join(missing, " "))
	}
	return nil
}

// run makes what must be given back first (socket, directory), then performs.
func (d *demo) run(ctx context.Context, out, complaints io.Writer) (err error) {
	if d.quiet {
		out = io.Discard
	}
	socket, address, err := listenConsole(d.http)
	if err != nil {
		return err
	}
	defer socket.Close()
	dir, err := newDataDir(d.data, d.keep)
	if err != nil {
		return usagef("demo: %w", err)
	}
	defer func() {
		if e := dir.close(); e != nil {
			err = errors.Join(err, exit(exitFinding, e))
		}
	}()
	p := play{demo: d, steps: steps{out: out, last: time.Now()}, complaints: complaints, dir: dir.path, http: address}
	return code(p.perform(ctx, socket))
}

// listenConsole opens the console's socket out here, where the browser is. The server inside the lab gets it.
func listenConsole(address string) (*os.File, string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, "", usagef("demo: %s is in use, perhaps by another crosstap: choose another address with --http, or --http 127.0.0.1:0 for a free one", address)
		}
		return nil, "", usagef("demo: --http %s: %w", address, err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, "", exit(exitFinding, fmt.Errorf("demo: console socket: %w", err))
	}
	return f, l.Addr().String(), nil
}

// steps prints what is done and how long it took.
type steps struct {
	out  io.Writer
	last time.Time
}

func (s *steps) done(format string, args ...any) {
	now := time.Now()
	fmt.Fprintf(s.out, "✓ %-72s %6.1f s\n", fmt.Sprintf(format, args...), now.Sub(s.last).Seconds())
	s.last = now
}

// impatient calls f at the second signal; the first one ends the command's context. The returned function ends the
// watch.
func impatient(f func()) (stop func()) {
	signals, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for range 2 {
			select {
			case <-signals:
			case <-done:
				return
			}
		}
		f()
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
