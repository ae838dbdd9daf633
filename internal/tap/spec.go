package tap

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/meter"
)

// Spec says what one tap does.
type Spec struct {
	Name string // of the observer that the records name
	Host string // that the observer is on
	Role flow.Role

	// The source: interfaces, or one capture file ("-" for standard input).
	Interfaces  []string
	File        string
	NetNS       string // file of the network namespace of the interfaces; "" for the process's own
	RingBytes   int    // of kernel memory for each interface
	SnapLen     int    // keep at most so many bytes of each frame; 0 for all
	Promiscuous bool
	IngressOnly bool

	// The meter.
	Idle, Active time.Duration
	MaxFlows     int
	VXLANPorts   []uint16 // nil for the usual ones
	Domain       uint32   // observation domain of the records

	// The destinations of flow records, as URLs: ipfix://…, flows:-, null:.
	To     []string
	Stdout io.Writer // where flows:- goes

	Ready func() // called once, when capturing has begun
	Log   *slog.Logger
}

// DefaultSpec returns a spec without source and destination.
func DefaultSpec() Spec {
	m, l := meter.DefaultConfig(), capture.DefaultLiveConfig()
	return Spec{
		RingBytes: l.RingBytes, Promiscuous: l.Promiscuous,
		Idle: m.IdleTimeout, Active: m.ActiveTimeout, MaxFlows: m.MaxFlows, Domain: 1,
	}
}

// MinSnapLen is the least that a frame is cut to: enough for the headers of a TCP packet inside VXLAN, both over
// IPv6 and with tags.
const MinSnapLen = 160

// Validate reports the first mistake.
func (s *Spec) Validate() error {
	switch {
	case len(s.Interfaces) == 0 && s.File == "":
		return errors.New("tap: no source: name an interface or a capture file")
	case len(s.Interfaces) > 0 && s.File != "":
		return errors.New("tap: interfaces and a capture file at once: name one kind of source")
	case len(s.To) == 0:
		return errors.New("tap: no destination: give at least one of ipfix://HOST, flows:- and null: (to measure)")
	case s.SnapLen != 0 && s.SnapLen < MinSnapLen:
		return fmt.Errorf("tap: snap length %d: must be 0 for whole frames, or at least %d so that headers inside tunnels stay", s.SnapLen, MinSnapLen)
	}
	return nil
}

func (s *Spec) meterConfig() meter.Config {
	c := meter.DefaultConfig()
	c.IdleTimeout, c.ActiveTimeout, c.MaxFlows, c.Domain = s.Idle, s.Active, s.MaxFlows, s.Domain
	c.Live = s.File == ""
	return c
}

func (s *Spec) dissectConfig() dissect.Config { return dissect.Config{VXLANPorts: s.VXLANPorts} }

// destinations sorts the URLs of the spec.
func (s *Spec) destinations() (targets []export.Target, lines, null bool, err error) {
	for _, to := range s.To {
		u, err := url.Parse(to)
		if err != nil {
			return nil, false, false, fmt.Errorf("tap: destination %q: %w", to, err)
		}
		switch {
		case u.Scheme == "flows" && u.Opaque == "-":
			lines = true
		case u.Scheme == "null" && u.Opaque == "" && u.Host == "" && u.Path == "":
			null = true
		case u.Scheme == "ipfix":
			t, err := export.ParseTarget(to)
			if err != nil {
				return nil, false, false, fmt.Errorf("tap: %w", err)
			}
			targets = append(targets, t)
		default:
			return nil, false, false, fmt.Errorf("tap: destination %q: want ipfix://HOST[:4739], flows:- or null: and nothing else", to)
		}
	}
	if lines && s.Stdout == nil {
		return nil, false, false, errors.New("tap: destination flows:-: there is no standard output")
	}
	return targets, lines, null, nil
}
