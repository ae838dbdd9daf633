package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crosstap/internal/rpcap"
	"crosstap/internal/tap"
	"crosstap/internal/tap/capture"
)

// captureFlags are the flags of the capture command.
type captureFlags struct {
	write     string
	frames    uint64
	limit     time.Duration
	size      byteSize
	snap      int
	netns     string
	noPromisc bool
	verbose   bool
}

func newCapture() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:     "capture TARGET [FILTER...] [-w FILE|-]",
		GroupID: "run",
		Short:   "Capture now: print frames, write a file, or feed Wireshark through a pipe",
		Long: `capture takes frames from one place until it has enough, is interrupted, or its reader goes away. It prints a line for each, or
writes them to a capture file.

TARGET is an interface of this host (vnet3), an interface of another host that runs rpcapd or crosstap tap --to rpcap://
(rpcap://HOST/eth0), or an endpoint that a remote mirror sends to (erspan://, vxlan://:4789?vni=5001).

The words behind it are the filter, as for tcpdump; of a remote mirror it sees the frames that are inside.

-w - writes pcapng to standard output, for a pipe: | wireshark -k -i -. The end of the file name chooses the format: .pcap, else pcapng;
.gz and .zst compress. The account of the frames goes to standard error.`,
		Example: `  crosstap capture vnet3 tcp port 443 -c 10
  crosstap capture vnet3 'vxlan 5001 and inner icmp' -w - | wireshark -k -i -
  crosstap capture rpcap://esx-mgmt.example/eth0 -w trace.pcapng.zst --for 30s
  crosstap capture 'erspan://?session=5,7' arp --size 100MiB -w mirror.pcap`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeInterfaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := f.spec(args[0], strings.Join(args[1:], " "))
			if err != nil {
				return err
			}
			t := tapFlags{spec: spec, ring: byteSize(spec.RingBytes), key: spec.Key.String(), noPromisc: f.noPromisc, verbose: f.verbose}
			if err := t.complete(cmd); err != nil {
				return err
			}
			if !f.verbose {
				t.spec.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			}
			return runTap(cmd, t.spec, progress{never: true})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.write, "write", "w", "", "write the frames to this capture file; - for standard output")
	fl.Uint64VarP(&f.frames, "count", "c", 0, "end after so many frames")
	fl.DurationVar(&f.limit, "for", 0, "end after this time")
	fl.Var(&f.size, "size", "end before the frames have more bytes than this")
	fl.IntVar(&f.snap, "snap", 0, "keep this many bytes of each frame (0: all)")
	fl.StringVar(&f.netns, "netns", "", "file of the network namespace of the interface")
	fl.BoolVar(&f.noPromisc, "no-promisc", false, "only frames addressed to the interface")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "log details")
	return cmd
}

// spec returns the tap that the flags describe.
func (f *captureFlags) spec(target, filter string) (tap.Spec, error) {
	s := tap.DefaultSpec()
	if err := aim(&s, target); err != nil {
		return s, err
	}
	if f.limit < 0 {
		return s, usagef("capture: --for %s: must be positive", f.limit)
	}
	s.Filter, s.NetNS, s.SnapLen = filter, f.netns, f.snap
	s.Limit = tap.Limit{Frames: f.frames, Bytes: uint64(f.size), For: f.limit}
	switch {
	case f.write == "":
		s.To = []string{"frames:-"}
	case strings.HasSuffix(strings.TrimSuffix(strings.TrimSuffix(f.write, ".gz"), ".zst"), ".pcap"):
		s.To = []string{"pcap:" + f.write}
	default:
		s.To = []string{"pcapng:" + f.write}
	}
	return s, nil
}

// aim sets the source of a spec: an interface, one of another host, or an endpoint of a remote mirror.
func aim(s *tap.Spec, target string) error {
	url := strings.Contains(target, "://")
	kind, name, _ := strings.Cut(target, "/")
	switch {
	case rpcap.IsTarget(target):
		s.Remotes = []string{target}
	case url:
		if _, err := capture.ParseEndpoint(target); err != nil {
			return exit(exitUsage, fmt.Errorf("capture: %w; or rpcap://HOST/INTERFACE", err))
		}
		s.Listen = []string{target}
	case kind == "iface" && name != "":
		s.Interfaces = []string{name}
	case name != "":
		return usagef("capture: %s: want an interface of this host, rpcap://HOST/INTERFACE, or an endpoint of a remote mirror as erspan://", target)
	default:
		s.Interfaces = []string{target}
	}
	return nil
}
