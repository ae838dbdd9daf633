// Package filter compiles the packet filter language of pcap-filter(7), with words for the tunnels that
// it lacks, for every place where frames can be chosen: a matcher in Go, classic BPF for sockets, eBPF for tc
// hooks and entries of an OpenFlow table, with what of it only the matcher can decide.
//
// One expression becomes one tree of tests on the bytes of a frame, the tree a decision graph, and the graph the
// program of each engine. As in libpcap a read beyond the captured bytes ends the whole filter with "no match",
// also under a "not".
package filter

import (
	"fmt"
	"net/netip"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

// Error says where in an expression the mistake is.
type Error struct {
	Pos, Len   int // bytes
	Message    string
	Suggestion string // "" for none
}

// Error gives "filter: column N: message; suggestion".
func (e *Error) Error() string {
	s := fmt.Sprintf("filter: column %d: %s", e.Pos+1, e.Message)
	if e.Suggestion != "" {
		s += "; " + e.Suggestion
	}
	return s
}

// Resolver turns names into addresses. A filter without names never asks it.
type Resolver interface {
	// Host returns the addresses of a host.
	Host(name string) ([]netip.Addr, error)
	// Ether returns the Ethernet address of a host.
	Ether(name string) ([6]byte, error)
	// Net returns the network with that name, as its significant bytes' prefix.
	Net(name string) (netip.Prefix, error)
}

// Options of a compilation. The zero value is usable.
type Options struct {
	SnapLen  uint32       // value that a match returns in BPF; 0 means 262144
	Netmask  netip.Prefix // the capturing interface's IPv4 network, for "ip broadcast"; invalid when not known
	Resolver Resolver     // nil: names of hosts and networks are refused
	// Tunnels says on which ports tunnels are. A nil list means for "vxlan", "geneve" and "nsh" the port that is registered, and for what looks inside
	// (inner, payload) the usual ones.
	Tunnels dissect.Config
	// KernelVLAN makes the BPF and eBPF programs for frames out of which the kernel has taken the outermost VLAN tag, as
	// on packet sockets and at tc hooks. They answer as Match does of the frame with its tag put back.
	KernelVLAN bool
	Never      bool // accept an expression that no packet can match

	levels    int // of "inner" and "outer" around the expression
	dissector *dissect.Dissector
}

// Filter is a compiled expression for one link type. It is immutable and safe for concurrent use.
type Filter struct {
	Expr string
	Link frame.LinkType
	opt  Options
	root Node

	match *program
}

// Compile compiles an expression for frames of that link type. An empty expression matches everything. The error is an
// *Error.
func Compile(expr string, link frame.LinkType, opt Options) (*Filter, error) {
	if opt.SnapLen == 0 {
		opt.SnapLen = 262144
	}
	opt.dissector = dissect.New(opt.Tunnels)
	tree, err := parse(expr)
	if err != nil {
		return nil, err
	}
	root, err := generate(tree, link, opt)
	if err != nil {
		return nil, err
	}
	if opt.KernelVLAN && link != frame.LinkEthernet {
		return nil, &Error{Message: "VLAN tags beside the frame are known of Ethernet alone"}
	}
	return &Filter{Expr: expr, Link: link, opt: opt, root: root, match: compile(root)}, nil
}
