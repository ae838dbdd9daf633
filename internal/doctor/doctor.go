// Package doctor finds out what this machine can do for crosstap. Whatever can be tried is tried, in a
// network namespace of its own where it would leave traces; nothing is guessed from version numbers.
package doctor

import (
	"context"
	"io/fs"
	"net/netip"
	"os/exec"
	"slices"
	"time"

	"crosstap/internal/procnet"
)

// Level is how a check ended.
type Level string

// The levels. A check fails when a chosen purpose needs what is missing, else it warns.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Purposes that may need something.
var Purposes = []string{"serve", "tap", "demo"}

// Result is the outcome of one check.
type Result struct {
	Area   string `json:"area"`
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	For    string `json:"for"`    // what it makes possible
	Action string `json:"action"` // the way out; "" when all is well
}

// Options say what to look at.
type Options struct {
	For       []string       // purposes that must work; none means that nothing is needed
	HTTP      netip.AddrPort // address the console will have; none unless valid
	Flows     []Address      // of the collector
	Data      string         // store directory
	Inventory string         // file, "" for none
	Server    func(context.Context) error
	ServerURL string
	Probe     []string // command line of a process that calls Probe; "" leaves the kernel checks out
}

// Address is one address that something listens on.
type Address struct {
	Network string // "udp" or "tcp"
	netip.AddrPort
}

// areas in the order of the report.
var areas = []string{"privileges", "capture", "kernel", "limits", "clock", "ports", "store", "server", "tools"}

// report collects results. needs are the purposes that cannot do without.
type report struct {
	opt     Options
	results []Result
}

func (r *report) ok(area, check, found, use string) {
	r.results = append(r.results, Result{Area: area, Check: check, Level: OK, Found: found, For: use})
}

// missing adds a result that fails if one of the needs is among the chosen purposes, and warns otherwise.
func (r *report) missing(area, check, found, use, action string, needs ...string) {
	level := Warn
	for _, n := range needs {
		if slices.Contains(r.opt.For, n) {
			level = Fail
		}
	}
	r.results = append(r.results, Result{area, check, level, found, use, action})
}

// Examine runs all checks, one after the other. It takes a second or two, at most ten.
func Examine(ctx context.Context, opt Options) []Result {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r := &report{opt: opt}
	r.host(ctx)
	r.ports()
	r.store()
	r.server(ctx)
	r.tools()
	slices.SortStableFunc(r.results, func(a, b Result) int { return slices.Index(areas, a.Area) - slices.Index(areas, b.Area) })
	return r.results
}

// Failed reports whether a need is not met.
func Failed(list []Result) bool {
	return slices.ContainsFunc(list, func(r Result) bool { return r.Level == Fail })
}

func (r *report) ports() {
	if r.opt.HTTP.IsValid() {
		r.port("tcp", r.opt.HTTP, "console and API", "http")
	}
	for _, a := range r.opt.Flows {
		r.port(a.Network, a.AddrPort, "collecting flows", "flows")
	}
}

func (r *report) port(network string, a netip.AddrPort, use, key string) {
	check := network + " " + a.String()
	h, held := procnet.FindHolder(network, a)
	switch {
	case !held:
		r.ok("ports", check, "free", use)
	case h.Name == "crosstap":
		r.ok("ports", check, "held by "+h.String(), use)
	default:
		r.missing("ports", check, "held by "+h.String(), use, "stop it, or choose another address with --"+key, "serve")
	}
}

func (r *report) server(ctx context.Context) {
	if r.opt.Server == nil {
		return
	}
	if err := r.opt.Server(ctx); err != nil {
		r.missing("server", r.opt.ServerURL, err.Error(), "pairs, conversations, flows without --data", `start one with "crosstap serve"`)
		return
	}
	r.ok("server", r.opt.ServerURL, "answers", "pairs, conversations, flows without --data")
}

// peers are programs that crosstap works with or is compared with; none is needed.
var peers = []struct{ name, use, pkg string }{
	{"tshark", "looking into captures", "tshark"},
	{"wireshark", "looking into captures", "wireshark"},
	{"tcpdump", "captures to compare with", "tcpdump"},
	{"ip", "looking at namespaces and links", "iproute2"},
	{"tc", "looking at mirrors", "iproute2"},
	{"nft", "looking at copy rules", "nftables"},
	{"ethtool", "looking at offloads", "ethtool"},
	{"ovs-vsctl", "Open vSwitch mirrors and exporters", "openvswitch-switch"},
	{"virsh", "names of VMs from libvirt", "libvirt-clients"},
	{"nfdump", "comparing with another collector", "nfdump"},
}

func (r *report) tools() {
	for _, p := range peers {
		if path, err := exec.LookPath(p.name); err == nil {
			r.ok("tools", p.name, path, p.use)
		} else {
			r.missing("tools", p.name, "not installed", p.use, "apt-get install "+p.pkg)
		}
	}
}

// cause is an error of the file system without its path.
func cause(err error) string {
	if pe, ok := err.(*fs.PathError); ok {
		return pe.Err.Error()
	}
	return err.Error()
}
