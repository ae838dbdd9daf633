package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"crosstap/internal/flow"
	"crosstap/internal/obs"
	"crosstap/internal/privilege"
	"crosstap/internal/tap"
	"crosstap/internal/tap/meter"
	"crosstap/internal/tapspec"
)

const tapLong = `tap captures from interfaces, receives what remote mirrors send, or reads a capture file. It passes the frames that match a filter through the groom steps, and
gives what remains to every destination: frames to capture files, flow records to collectors. For the records it finds the
packets inside tunnels and meters them into flows.

What is metered is the innermost packet; the tunnel's endpoints and its segment (VNI) are part of the flow. With --key outer it is the
outermost packet, and tunnels are not looked into; with --key both the tunnel's ports are part of the flow, too. Packets are
counted as the wire would have carried them: a super-frame of segmentation offload counts as its segments.

Capturing never makes the sender of a frame wait. What cannot be metered in time is shed, counted, and named in the
summary that ends the run on standard error.

The filter (-f) is written as for tcpdump; crosstap filter explain shows it. For interfaces the kernel filters before it
copies a frame; what no kernel program can decide (inner, payload) the tap looks at again. The summary says which.

Frames of interfaces come through a packet ring, unless the kernel can do all the work: copies that are filtered or sampled and go only to
tunnels are made there. A line on standard error says which path was taken, and why. --path tcx also has the kernel count flow records
(without what needs a look into packets: applications by name, round-trip times), or with --snap hand over headers only; --path ring
has user space do everything; --path clsact is for kernels before 6.6.

The groom steps (--groom) run in their own order, whatever order they are named in: repair, strip, dedup, sample, slice, mask,
tag, balance. Their options follow each after a slash: dedup=50ms/packets=100,slice=l4+64,mask=addresses/key-file=KEY. @FILE
reads them as YAML.

Remote mirrors (--listen, repeatable): erspan:// (types I, II and III; session=N,N), gre:// (key=N), vxlan://[ADDRESS][:4789] (vni=N),
geneve://[:6081] (vni=N), tzsp://[:37008] and udp://:PORT; all: from=PREFIX of the senders. The outer headers are taken off. Each sender and session is
an observation point. -i also takes an interface of another host: rpcap://[USER@]HOST[:2002]/IFACE?password_file=FILE, rpcaps:// with TLS.

An inline pair (--inline A,B) makes a wire of two interfaces: the kernel passes on what comes in by either, and the tap copies it, both ways. Options follow
after slashes: fail=open (the default) has it pass everything when the tap ends or is killed, fail=closed nothing once the lease (lease=5s) has ended;
links=apart keeps a link up while the other one is down. crosstap inline lists and parts pairs.

Destinations (--to, repeatable):
  pcapng:PATH           frames to a capture file with interfaces, directions and drop counts; .gz and .zst compress;
                        - is standard output. A file is written in place, at most a second behind, for its owner alone
                        with ?size=1GiB, every=1h, frames=N begins new files, files=N, budget=10GiB, free=5GiB remove the oldest
  pcap:PATH             the same as a classic file, one link type; nanoseconds, or the unit of the pcap file that is read
  vxlan://HOST[:4789]?vni=N, geneve://HOST[:6081]?vni=N, udp://HOST:PORT   copies of frames to a tool over UDP; ports=16 source ports
  gre://HOST[?key=N&seq=yes], erspan2://HOST?session=N, erspan3://HOST?session=N   the same in GRE packets
                        all: mtu=fragment|slice|refuse what is too long for the path, absent=send|pause, rate=500M, source=ADDR, dev=IFACE
  iface:NAME            copies of frames out of an interface of this host
  tls://HOST:PORT       a pcapng stream; ca=FILE, cert=FILE, key=FILE, server_name=NAME, queue=16MiB
                        any of these and the files also take filter=EXPR and groom=STEPS of their own, with & # % as %26 %23 %25
  rpcap://[ADDRESS][:2002]   frames to clients of libpcap's remote capture, such as Wireshark, that connect there; * for all addresses; user=NAME,
                        password_file=FILE, data_port=N, clients=N; rpcaps:// with cert=FILE, key=FILE
  frames:-              a line for each frame on standard output
  ipfix://HOST[:4739]   flow records as IPFIX over UDP; ?profile=ovs|vmware, domain=N, biflow, filter=EXPR, sample=N, refresh=60s,
                        refresh_packets=N, source=ADDR, mtu=N
  ipfix+tcp://HOST, ipfix+tls://HOST   the same over a connection, with a spool on the disk while the collector is away;
                        spool=SIZE, spool_dir=DIR; ca=FILE, cert=FILE, key=FILE, server_name=NAME
  netflow9://HOST[:2055], netflow5://HOST[:2055]   the older formats; netflow5 has engine_type=N, engine_id=N
  sflow://HOST[:6343]   samples of frames and counters of interfaces; ?sample=N, header=128, counters=20s, agent=ADDR, sub_agent=N
  flows:-               flow records as JSON lines on standard output
  null:                 flow records nowhere; to measure
  null:frames           frames nowhere; to count what a filter matches

Capture files are pcap or pcapng, also compressed with gzip or zstd; - is standard input. Flows of a file expire by
the time stamps of its packets. SIGINT and SIGTERM end the capture; what was captured is still metered and sent. The exit code is 1 when a
collector of flows got nothing at all, or when frames for a file could not be written. Other destinations go on without one that fails, and it is tried
again; a file that is the only destination ends the run.
Capturing from interfaces needs CAP_NET_RAW.`

const tapExamples = `  crosstap tap -i vnet3 --to ipfix://collector.example
  crosstap tap -i vnet3 -i vnet4 --name "h1 ports" --idle 2s --active 2s --to 'ipfix://10.0.0.9:4739?profile=vmware&domain=7'
  crosstap tap -r trace.pcapng --to flows:- | jq -c 'select(.vni == 5001)'
  crosstap tap -r trace.pcapng -f 'vxlan 5001 and inner tcp port 443' --to pcapng:https.pcapng.zst
  crosstap tap -i vnet3 -f 'not port 22' --groom repair,dedup,slice=l4+64 --to pcapng:- | wireshark -k -i -
  ssh host tcpdump -i any -U -w - | crosstap tap -r - --to flows:-
  crosstap tap -i vnet3 --to 'vxlan://10.0.0.9?vni=77&filter=tcp port 443' --to 'pcapng:web.pcapng.zst?size=1GiB&budget=20GiB'
  crosstap tap -i vnet3 --groom sample=16 --to 'vxlan://10.0.0.9?vni=77&mtu=slice'
  crosstap tap -i vnet3 --path tcx --to ipfix://10.0.0.9
  crosstap tap --inline eth1,eth2 --to ipfix://10.0.0.9 --to 'pcapng:wire.pcapng.zst?size=1GiB&files=8'
  crosstap tap --listen 'erspan://?session=5,7' --listen vxlan://:4789 --to ipfix://10.0.0.9
  crosstap tap -i vnet3 --to 'rpcaps://*?user=ops&password_file=pw&cert=c.pem&key=k.pem'
  crosstap tap -r trace.pcap --tunnel-port geneve=6082 -f 'geneve and inner tcp' --groom strip=geneve --to pcap:inner.pcap
  crosstap tap -i eth0 --vxlan-port 4789 --vxlan-port 8472 --to ipfix://10.0.0.9 --to flows:-`

// tapFlags are the tap command's flags.
type tapFlags struct {
	spec      tap.Spec
	ring      byteSize
	ports     []int    // of VXLAN
	tunnels   []string // ports of others, as geneve=6082
	inline    string
	role      string
	key       string
	groom     string
	budget    string
	rights    privilege.Config
	noPromisc bool
	verbose   bool
	progress  progress
}

func newTap() *cobra.Command {
	f := tapFlags{spec: tap.DefaultSpec()}
	f.ring = byteSize(f.spec.RingBytes)
	cmd := &cobra.Command{
		Use:     "tap {-i IFACE... | --inline A,B | -r FILE | --listen URL...} [-f FILTER] [--groom STEPS] --to URL...",
		GroupID: "run",
		Short:   "Run one tap: capture, filter, groom; write frames, export flows",
		Long:    tapLong,
		Example: tapExamples,
		Args:    asForTcpdump,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.complete(cmd); err != nil {
				return err
			}
			return runTap(cmd, f.spec, f.progress)
		},
	}
	f.add(cmd.Flags())
	completeTap(cmd)
	return cmd
}

// asForTcpdump refuses words without a flag, which are a file or, by habit, a filter.
func asForTcpdump(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if st, err := os.Stat(args[0]); err == nil && !st.IsDir() {
		return usagef("tap: %q: a capture file is read with -r %s", args[0], args[0])
	}
	return usagef("tap: %q: a filter is given with -f '%s'", args[0], strings.Join(args, " "))
}

func (t *tapFlags) add(f *pflag.FlagSet) {
	s := &t.spec
	f.StringArrayVarP(&s.Interfaces, "interface", "i", nil, "capture from this interface, or rpcap://HOST/IFACE (repeatable)")
	f.StringVar(&t.inline, "inline", "", "join these two interfaces A,B like a wire, and copy what passes; options as in eth1,eth2/fail=closed/lease=5s/links=apart")
	f.StringArrayVar(&s.Listen, "listen", nil, "receive what a remote mirror sends to here (repeatable): vxlan://:4789, geneve://, gre://, erspan://, tzsp://, udp://:PORT")
	f.StringVarP(&s.File, "read", "r", "", "read this capture file; - for standard input")
	f.StringVarP(&s.Filter, "filter", "f", "", "only frames that match this expression, as for tcpdump")
	f.StringVar(&t.groom, "groom", "", "what is made of them: repair, strip, dedup, sample, slice, mask, tag, balance; @FILE for YAML")
	f.StringArrayVar(&s.To, "to", nil, "send there (repeatable): ipfix://HOST, ipfix+tcp://, ipfix+tls://, netflow9://, netflow5://, sflow://, flows:-, pcapng:PATH, pcap:PATH, vxlan://HOST, geneve://, gre://, erspan2://, erspan3://, udp://, iface:NAME, tls://, rpcap://, frames:-, null:")
	f.BoolVar(&t.progress.always, "progress", false, "print how far reading is, also when standard error is no terminal")
	f.BoolVar(&t.progress.never, "no-progress", false, "do not print how far reading is")
	f.StringVar(&s.SpoolDir, "spool-dir", defaultSpoolDir(), "keep there what waits for a collector that is away (ipfix+tcp, ipfix+tls)")
	f.StringVar(&s.Name, "name", "", "name of the observer in flow records")
	f.StringVar(&t.role, "role", "", "kind of place: vnic, port, mirror, tunnel or underlay")
	f.DurationVar(&s.Idle, "idle", s.Idle, "end a flow after this time without a packet")
	f.DurationVar(&s.Active, "active", s.Active, "report a flow that lasts after each such time")
	f.IntVar(&s.SnapLen, "snap", 0, "keep this many bytes of each frame (0: all; for flow records at least "+strconv.Itoa(tap.MinSnapLen)+")")
	f.IntSliceVar(&t.ports, "vxlan-port", nil, "UDP port of VXLAN (repeatable; default 4789, 8472)")
	f.StringSliceVar(&t.tunnels, "tunnel-port", nil, "UDP port of a tunnel, as geneve=6082 (repeatable): vxlan, vxlan-gpe, geneve, gtp, mpls, tzsp, gre")
	f.BoolVar(&s.Tunnels.NVGRE, "nvgre", false, "a key of GRE is NVGRE's: a virtual subnet and a flow")
	f.Var(&t.ring, "ring", "memory of each interface's ring")
	f.BoolVar(&t.noPromisc, "no-promisc", false, "only frames addressed to the interface")
	f.StringVar(&s.Path, "path", tap.PathAuto, "how frames are taken: "+strings.Join(tap.Paths, ", ")+" (see crosstap doctor)")
	f.BoolVar(&s.IngressOnly, "ingress-only", false, "not the frames that the host sends through the interface")
	f.StringVar(&t.key, "key", s.Key.String(), "what a flow is, of packets in tunnels: inner, outer or both")
	f.BoolVar(&s.Biflow, "biflow", false, "give the two directions of a conversation together (RFC 5103)")
	f.IntVar(&s.Workers, "workers", s.Workers, "meter with this many workers, each with a flow cache (0: one for each processor)")
	f.IntVar(&s.MaxFlows, "max-flows", s.MaxFlows, "flows in the cache at most; beyond it the quietest end early")
	f.Uint32Var(&s.Domain, "domain", s.Domain, "observation domain of the records")
	f.StringVar(&t.budget, "budget", "", "what the tap may cost: cpu=20%,memory=200MiB,mirror=100Mbit/s; what is above is sliced, sampled by flow, metered alone, left out")
	f.StringVar(&t.progress.metrics, "metrics", "", "serve the tap's books and levels for Prometheus at this address, such as 127.0.0.1:9474")
	f.StringVar(&t.rights.User, "user", "", "become this user; the rights to capture are kept")
	f.StringVar(&s.NetNS, "netns", "", "file of the network namespace that the interfaces are in")
	f.BoolVarP(&t.verbose, "verbose", "v", false, "log details")
}

// complete turns the flags into the spec.
func (t *tapFlags) complete(cmd *cobra.Command) (err error) {
	s := &t.spec
	s.RingBytes, s.Promiscuous = int(t.ring), !t.noPromisc
	if err := t.tunnelPorts(); err != nil {
		return err
	}
	if s.Role = flow.ParseRole(t.role); t.role != "" && s.Role.String() != t.role {
		return usagef("tap: role %q: want vnic, port, mirror, tunnel or underlay", t.role)
	}
	if s.Key, err = meter.ParseKey(t.key); err != nil {
		return exit(exitUsage, err)
	}
	if t.inline != "" {
		if s.Inline, err = tapspec.ParseInline(t.inline); err != nil {
			return exit(exitUsage, fmt.Errorf("tap: --%w", err))
		}
	}
	s.Keeper = keeper()
	if t.budget != "" {
		if s.Budget, err = tapspec.ParseBudget(t.budget); err != nil {
			return exit(exitUsage, fmt.Errorf("tap: --%w", err))
		}
	}
	s.Stdout, s.Log = cmd.OutOrStdout(), obs.Logger(cmd.ErrOrStderr(), t.verbose)
	if t.rights.User != "" {
		t.rights.Folders = []string{s.SpoolDir}
		if err := privilege.Drop(t.rights, s.Log); err != nil {
			return exit(exitDenied, err)
		}
	}
	if s.Host == "" {
		s.Host, _ = os.Hostname()
	}
	s.Program = "crosstap " + obs.Version().Version
	if t.groom != "" {
		if s.Groom, err = readGroom(t.groom); err != nil {
			return exit(exitUsage, err)
		}
	}
	return nil
}

// tunnelPorts reads the ports of tunnels.
func (t *tapFlags) tunnelPorts() error {
	all := slices.Clone(t.tunnels)
	for _, p := range t.ports {
		all = append(all, "vxlan="+strconv.Itoa(p))
	}
	for _, text := range all {
		name, port, ok := strings.Cut(text, "=")
		n, err := strconv.ParseUint(port, 10, 16)
		if !ok || err != nil || n == 0 {
			return usagef("tap: port of a tunnel %q: want a name and 1 to 65535, as geneve=6082", text)
		}
		if err := t.spec.Tunnels.Add(name, uint16(n)); err != nil {
			return exit(exitUsage, fmt.Errorf("tap: --tunnel-port: %w", err))
		}
	}
	return nil
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
