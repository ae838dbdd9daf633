package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"crosstap/internal/filter"
	"crosstap/internal/flow"
	"crosstap/internal/obs"
	"crosstap/internal/tap"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/groom"
)

func newTap() *cobra.Command {
	spec := tap.DefaultSpec()
	ring := byteSize(spec.RingBytes)
	var ports []int
	var role string
	var noPromisc, verbose bool
	var groomed string
	var show progress
	cmd := &cobra.Command{
		Use:     "tap {-i IFACE... | -r FILE} [-f FILTER] [--groom STEPS] --to URL...",
		GroupID: "run",
		Short:   "Run one tap: capture, filter, groom; write frames, export flows",
		Long: `tap captures from interfaces or reads a capture file, passes the frames that match a filter through the groom steps, and
gives what remains to every destination: frames to capture files, flow records to collectors. For the records it finds the
packets inside tunnels and meters them into flows.

What is metered is the innermost packet; the tunnel's endpoints and its segment (VNI) are part of the flow. Packets are
counted as the wire would have carried them: a super-frame of segmentation offload counts as its segments.

Capturing never makes the sender of a frame wait. What cannot be metered in time is shed, counted, and named in the
summary that ends the run on standard error.

The filter (-f) is written as for tcpdump; crosstap filter explain shows it. For interfaces the kernel filters before it
copies a frame; what no kernel program can decide (inner, payload) the tap looks at again. The summary says which.

The groom steps (--groom) run in their own order, whatever order they are named in: repair, strip, dedup, sample, slice, mask,
tag, balance. Their options follow each after a slash: dedup=50ms/packets=100,slice=l4+64,mask=addresses/key-file=KEY.

Destinations (--to, repeatable):
  pcapng:PATH           frames to a capture file with interfaces, directions and drop counts; .gz and .zst compress;
                        - is standard output. A file is written in place, at most a second behind, for its owner alone
  pcap:PATH             the same as a classic file with nanoseconds, one link type
  ipfix://HOST[:4739]   IPFIX over UDP; ?profile=ovs|vmware, domain=N, refresh=60s, source=ADDR, mtu=N
  flows:-               flow records as JSON lines on standard output
  null:                 flow records nowhere; to measure
  null:frames           frames nowhere; to count what a filter matches

Capture files are pcap or pcapng, also compressed with gzip or zstd; - is standard input. Flows of a file expire by
the time stamps of its packets. SIGINT and SIGTERM end the capture; what was captured is still metered and sent.
Capturing from interfaces needs CAP_NET_RAW.`,
		Example: `  crosstap tap -i vnet3 --to ipfix://collector.example
  crosstap tap -i vnet3 -i vnet4 --name "h1 ports" --idle 2s --active 2s --to 'ipfix://10.0.0.9:4739?profile=vmware&domain=7'
  crosstap tap -r trace.pcapng --to flows:- | jq -c 'select(.vni == 5001)'
  crosstap tap -r trace.pcapng -f 'vxlan 5001 and inner tcp port 443' --to pcapng:https.pcapng.zst
  crosstap tap -i vnet3 -f 'not port 22' --groom repair,dedup,slice=l4+64 --to pcapng:- | wireshark -k -i -
  ssh host tcpdump -i any -U -w - | crosstap tap -r - --to flows:-
  crosstap tap -i eth0 --vxlan-port 4789 --vxlan-port 8472 --to ipfix://10.0.0.9 --to flows:-`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec.RingBytes, spec.Promiscuous = int(ring), !noPromisc
			var err error
			if spec.VXLANPorts, err = portList(ports); err != nil {
				return err
			}
			if spec.Role = flow.ParseRole(role); role != "" && spec.Role.String() != role {
				return usagef("tap: role %q: want vnic, port, mirror, tunnel or underlay", role)
			}
			spec.Stdout, spec.Log = cmd.OutOrStdout(), obs.Logger(cmd.ErrOrStderr(), verbose)
			if spec.Host == "" {
				spec.Host, _ = os.Hostname()
			}
			if groomed != "" {
				if spec.Groom, err = parseGroom(groomed); err != nil {
					return exit(exitUsage, err)
				}
			}
			spec.Program = "crosstap " + obs.Version().Version
			return runTap(cmd, spec, show)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&spec.Interfaces, "interface", "i", nil, "capture from this interface (repeatable)")
	f.StringVarP(&spec.File, "read", "r", "", "read this capture file; - for standard input")
	f.StringVarP(&spec.Filter, "filter", "f", "", "only frames that match this expression, as for tcpdump")
	f.StringVar(&groomed, "groom", "", "what is made of them: repair, strip, dedup, sample, slice, mask, tag, balance")
	f.StringArrayVar(&spec.To, "to", nil, "send there (repeatable): ipfix://HOST, flows:-, pcapng:PATH, pcap:PATH, null:")
	f.BoolVar(&show.always, "progress", false, "print how far reading is, also when standard error is no terminal")
	f.BoolVar(&show.never, "no-progress", false, "do not print how far reading is")
	f.StringVar(&spec.Name, "name", "", "name of the observer in flow records")
	f.StringVar(&role, "role", "", "kind of place: vnic, port, mirror, tunnel or underlay")
	f.DurationVar(&spec.Idle, "idle", spec.Idle, "end a flow after this time without a packet")
	f.DurationVar(&spec.Active, "active", spec.Active, "report a flow that lasts after each such time")
	f.IntVar(&spec.SnapLen, "snap", 0, "keep this many bytes of each frame (0: all; at least "+strconv.Itoa(tap.MinSnapLen)+")")
	f.IntSliceVar(&ports, "vxlan-port", nil, "UDP port of VXLAN (repeatable; default 4789, 8472)")
	f.Var(&ring, "ring", "memory of each interface's ring")
	f.BoolVar(&noPromisc, "no-promisc", false, "only frames addressed to the interface")
	f.BoolVar(&spec.IngressOnly, "ingress-only", false, "not the frames that the host sends through the interface")
	f.IntVar(&spec.MaxFlows, "max-flows", spec.MaxFlows, "flows in the cache at most; beyond it the quietest end early")
	f.Uint32Var(&spec.Domain, "domain", spec.Domain, "observation domain of the records")
	f.StringVar(&spec.NetNS, "netns", "", "file of the network namespace that the interfaces are in")
	f.BoolVarP(&verbose, "verbose", "v", false, "log details")
	return cmd
}

// runTap runs the tap and chooses the exit code.
func runTap(cmd *cobra.Command, spec tap.Spec, show progress) error {
	spec.Ready = func() {
		if err := obs.Notify("READY=1"); err != nil {
			spec.Log.Warn("service manager not told", "error", err)
		}
	}
	if isTerminal(cmd.OutOrStdout()) && (slices.Contains(spec.To, "pcapng:-") || slices.Contains(spec.To, "pcap:-")) {
		return usagef("tap: standard output is a terminal: send the capture to a file or a program, as in | wireshark -k -i -")
	}
	t, err := tap.New(spec)
	if err != nil {
		return exit(exitUsage, pointed(spec.Filter, err))
	}
	// A reader that goes away must end the run with its summary, not silently.
	signal.Ignore(syscall.SIGPIPE)
	start := time.Now()
	hide := show.start(cmd.ErrOrStderr(), t, spec.File)
	err = t.Run(cmd.Context())
	hide()
	var unknown *capture.UnknownInterface
	var open *os.PathError
	var mistake *filter.Error
	switch {
	case errors.As(err, &unknown):
		return exit(exitUsage, err)
	case errors.Is(err, os.ErrPermission):
		return exit(exitDenied, err)
	case errors.As(err, &open) && open.Op == "open":
		return exit(exitUsage, err)
	case errors.As(err, &mistake): // the expression does not fit the capture's link type
		return exit(exitUsage, pointed(spec.Filter, err))
	}
	printSummary(cmd.ErrOrStderr(), t, time.Since(start))
	if err == nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, context.Canceled) {
		return nil
	}
	return exit(exitFinding, err)
}

// printSummary ends a run: what was done, who filtered, and the account of frames.
func printSummary(w io.Writer, t *tap.Tap, took time.Duration) {
	fmt.Fprintln(w, "crosstap: tap:", t.Summary(took))
	if where := t.Filter(); where != "" {
		fmt.Fprintln(w, "crosstap: tap: filter:", where)
	}
	if sum := t.Ledger(); sum != "" {
		fmt.Fprintln(w, "crosstap: tap: ledger:", sum)
	}
}

// parseGroom reads groom steps, with a marker under the mistake.
func parseGroom(text string) (*groom.Spec, error) {
	s, err := groom.Parse(text)
	var e *groom.Error
	if errors.As(err, &e) && e.Column > 0 && !strings.ContainsAny(text, "\n\t") {
		err = fmt.Errorf("%w\n  %s\n  %s^", err, text, strings.Repeat(" ", e.Column-1))
	}
	return &s, err
}

func portList(ports []int) ([]uint16, error) {
	var out []uint16
	for _, p := range ports {
		if p < 1 || p > 65535 {
			return nil, usagef("tap: VXLAN port %d: must be 1 to 65535", p)
		}
		out = append(out, uint16(p))
	}
	return out, nil
}

// byteSize is a flag for a number of bytes with a unit: 32MiB, 512KiB, 1GiB or a plain number.
type byteSize int64

var byteUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

func (b *byteSize) Type() string { return "bytes" }

func (b *byteSize) String() string {
	for _, u := range byteUnits {
		if int64(*b) >= u.bytes && int64(*b)%u.bytes == 0 {
			return strconv.FormatInt(int64(*b)/u.bytes, 10) + u.name
		}
	}
	return "0"
}

func (b *byteSize) Set(s string) error {
	for _, u := range byteUnits {
		if digits, ok := strings.CutSuffix(s, u.name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil || n < 0 || n > 1<<40/u.bytes {
				break
			}
			*b = byteSize(n * u.bytes)
			return nil
		}
	}
	return fmt.Errorf("%q is not a size such as 32MiB", s)
}
