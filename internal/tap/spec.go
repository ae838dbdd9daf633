package tap

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/filter"
	"crosstap/internal/flow"
	"crosstap/internal/nearest"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/deliver"
	"crosstap/internal/tap/deliver/tunnel"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/groom"
	"crosstap/internal/tap/meter"
	"crosstap/internal/tapspec"
)

// Spec says what one tap does.
type Spec struct {
	Name string // of the observer that the records name
	Host string // that the observer is on
	Role flow.Role

	// The source: interfaces, or an inline pair, or one capture file ("-" for standard input), or endpoints of remote mirrors.
	Interfaces  []string
	Inline      *tapspec.Inline // two interfaces that are joined, in place of Interfaces; nil for none
	Keeper      []string        // command that runs kernel.Keep, for the pair and for filters of tc; nil for none
	File        string
	Listen      []string // endpoints that remote mirrors send to, as URLs
	Remotes     []string // interfaces of other hosts, as rpcap:// URLs; they may also stand among Interfaces
	NetNS       string   // file of the network namespace of the interfaces; "" for the process's own
	RingBytes   int      // of kernel memory for each interface
	SnapLen     int      // keep at most so many bytes of each frame; 0 for all
	Promiscuous bool
	IngressOnly bool
	Path        string // one of Paths; "" for PathAuto

	Filter   string          // the expression that frames must match; "" for all frames
	Resolver filter.Resolver // of the names in it; nil: names are refused
	Groom    *groom.Spec     // what is made of them; nil for nothing
	Tunnels  dissect.Config  // the ports of tunnels, for filters, groom steps and the meter

	// The meter.
	Idle, Active time.Duration
	MaxFlows     int
	Key          meter.Key // what a flow is, of packets in a tunnel
	Biflow       bool      // the two directions of a conversation leave together
	Workers      int       // that meter; 0 for one for each processor
	Domain       uint32    // observation domain of the records

	// The destinations, as URLs: ipfix://…, flows:- and null: for flow records, pcapng:PATH, pcap:PATH, vxlan://… and the like, and
	// null:frames for frames.
	To []string
	// SpoolDir is where connections to collectors keep what waits for an absent one; "" for memory only.
	SpoolDir string
	Stdout   io.Writer // where flows:-, pcapng:- and pcap:- go
	Program  string    // that capture files are said to be written by, with its version

	Limit Limit // when to end
	// Budget is what the tap may cost; what is above it is shed, as package governor says. Governor watches several taps of a process together;
	// nil for one of the tap's own, when there is a budget.
	Budget   tapspec.Budget
	Governor *Governor
	// Successor has the tap take no frame until Begin says from when on.
	Successor bool
	// Persist has the tap go on when its only destination cannot be written, and begin when a capture file cannot be opened yet: it is tried again. With several
	// destinations the others always go on.
	Persist bool
	Ready   func() // called once, when capturing has begun
	Log     *slog.Logger
}

// DefaultSpec returns a spec without source and destination.
func DefaultSpec() Spec {
	m, l := meter.DefaultConfig(), capture.DefaultLiveConfig()
	return Spec{
		RingBytes: l.RingBytes, Promiscuous: l.Promiscuous,
		Idle: m.IdleTimeout, Active: m.ActiveTimeout, MaxFlows: m.MaxFlows, Workers: m.Workers, Domain: 1,
	}
}

// MinSnapLen is the least that a frame is cut to when it is metered: enough for the headers of a TCP packet inside VXLAN, both over
// IPv6 and with tags.
const MinSnapLen = 160

// Validate reports the first mistake.
func (s *Spec) Validate() error {
	if err := s.checkSource(); err != nil {
		return err
	}
	switch {
	case len(s.To) == 0:
		return errors.New("tap: no destination: give at least one of ipfix://HOST, flows:-, pcapng:PATH, pcap:PATH and null: (to measure)")
	case s.SnapLen < 0:
		return fmt.Errorf("tap: snap length %d: must be 0 for whole frames, or positive", s.SnapLen)
	}
	if err := s.Tunnels.Validate(); err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	return nil
}

func (s *Spec) meterConfig() meter.Config {
	c := meter.DefaultConfig()
	c.IdleTimeout, c.ActiveTimeout, c.MaxFlows, c.Domain = s.Idle, s.Active, s.MaxFlows, s.Domain
	c.Key, c.Biflow, c.Workers = s.Key, s.Biflow, s.Workers
	c.Live = s.File == ""
	return c
}

func (s *Spec) filterOptions() filter.Options {
	return filter.Options{Resolver: s.Resolver, Tunnels: s.Tunnels}
}

// destinations are the URLs of a spec, sorted.
type destinations struct {
	targets       []export.Target
	sflow         []export.SFlowTarget
	lines, null   bool
	frames        []frameTo
	discardFrames bool
}

// frameTo is a destination of frames: a capture file or a tool.
type frameTo struct {
	to, rest string // the URL, and without the options that are in own
	own      own
	// one of these is there, or none for what has its own way of reading rest
	file   *deliver.FileConfig
	tunnel *tunnel.Target
	stream *deliver.StreamTarget
}

// several reports whether something else goes on when one destination does not.
func (d *destinations) several() bool {
	n := len(d.targets) + len(d.sflow) + len(d.frames)
	if d.lines {
		n++
	}
	return n > 1
}

// records reports whether flow records are wanted, and so a meter.
func (d *destinations) records() bool { return len(d.targets) > 0 || d.lines || d.null }

// destinations sorts the URLs of the spec.
func (s *Spec) destinations() (d destinations, err error) {
	stdout := 0
	for _, to := range s.To {
		onStdout, err := d.add(to)
		if err != nil {
			return d, err
		}
		if onStdout {
			stdout++
			if s.Stdout == nil {
				return d, fmt.Errorf("tap: destination %s: there is no standard output", to)
			}
		}
	}
	if d.records() && s.SnapLen != 0 && s.SnapLen < MinSnapLen {
		return d, fmt.Errorf("tap: snap length %d: must be 0 for whole frames, or at least %d so that headers inside tunnels stay", s.SnapLen, MinSnapLen)
	}
	if stdout > 1 {
		return d, fmt.Errorf("tap: %d destinations on standard output: it takes one", stdout)
	}
	seen := map[string]bool{}
	for _, f := range d.frames {
		if f.file == nil {
			continue
		}
		if path := filepath.Clean(f.file.Path); seen[path] {
			return d, fmt.Errorf("tap: two destinations are the file %s", f.file.Path)
		} else {
			seen[path] = true
		}
	}
	return d, nil
}

// add sorts one URL in.
func (d *destinations) add(to string) (stdout bool, err error) {
	scheme, _, _ := strings.Cut(to, ":")
	switch {
	case to == "flows:-":
		stdout, d.lines = true, true
	case to == "null:":
		d.null = true
	case to == "frames:-":
		stdout, d.frames = true, append(d.frames, frameTo{to: to})
	case to == "null:frames":
		d.discardFrames = true
	case scheme == "pcapng" || scheme == "pcap" || scheme == "tls" || scheme == "rpcap" || scheme == "rpcaps" || slices.Contains(tunnel.Schemes(), scheme):
		f, err := parseFrameTo(to, scheme)
		if err != nil {
			return false, err
		}
		stdout = f.file != nil && f.file.Path == "-"
		d.frames = append(d.frames, f)
	case scheme == "sflow":
		c, err := export.ParseSFlow(to)
		if err != nil {
			return false, fmt.Errorf("tap: %w", err)
		}
		d.sflow = append(d.sflow, c)
	case slices.Contains(export.Schemes(), scheme):
		t, err := export.ParseTarget(to)
		if err != nil {
			return false, fmt.Errorf("tap: %w", err)
		}
		d.targets = append(d.targets, t)
	default:
		return false, unknownTo(to, scheme)
	}
	return stdout, nil
}

// unknownTo says what a destination may have been meant to be, or which there are.
func unknownTo(to, scheme string) error {
	schemes := slices.Concat([]string{"flows", "frames", "null", "pcapng", "pcap"}, export.Schemes(), tunnel.Schemes(), []string{"sflow", "tls", "rpcap", "rpcaps"})
	meant := ""
	switch near := nearest.Of(scheme, schemes); {
	case to == "-":
		meant = "pcapng:-"
	case scheme == to && strings.Contains(to, ".pcap") && !strings.Contains(to, ".pcapng"):
		meant = "pcap:" + to
	case scheme == to && strings.ContainsAny(to, "./"):
		meant = "pcapng:" + to
	case near == "flows" || near == "frames":
		meant = near + ":-"
	case near == "null" || near == "pcap" || near == "pcapng" || near == "iface":
		meant = near + ":"
	case near != "":
		meant = near + "://"
	}
	if meant != "" {
		return fmt.Errorf("tap: destination %q: did you mean %s?", to, meant)
	}
	return fmt.Errorf("tap: destination %q: want %s or sflow://HOST, flows:-, frames:-, pcapng:PATH, pcap:PATH, tls://…, %s://…, iface:NAME, rpcap://ADDRESS, or null: for nowhere", to, strings.Join(export.Schemes(), "://, ")+"://",
		strings.Join(tunnel.Schemes()[:len(tunnel.Schemes())-1], "://…, "))
}

// parseFrameTo reads the URL of a capture file or a tool.
func parseFrameTo(to, scheme string) (f frameTo, err error) {
	f.to = to
	if f.rest, f.own, err = splitOwn(to); err != nil {
		return f, err
	}
	switch rest := f.rest; scheme {
	case "rpcap", "rpcaps":
	case "pcapng", "pcap":
		f.file = new(deliver.FileConfig)
		*f.file, err = deliver.ParseFile(rest)
	case "tls":
		f.stream = new(deliver.StreamTarget)
		*f.stream, err = deliver.ParseStream(rest)
	default:
		f.tunnel = new(tunnel.Target)
		*f.tunnel, err = tunnel.Parse(rest)
	}
	if err != nil {
		return f, fmt.Errorf("tap: %w", err)
	}
	return f, nil
}
