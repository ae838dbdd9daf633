package doctor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"crosstap/internal/privilege"
)

// capabilities that crosstap can use, by their number (capabilities(7)).
var capabilities = []struct {
	bit    uint
	name   string
	use    string
	needs  []string
	action string
}{
	{unix.CAP_NET_RAW, "CAP_NET_RAW", "live capture", []string{"tap"}, "run as root, or setcap cap_net_raw,cap_net_admin+ep on the binary"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "mirrors, promiscuous mode, large receive buffers", nil, "run as root, or setcap cap_net_admin+ep on the binary"},
	{unix.CAP_BPF, "CAP_BPF", "in-kernel metering", nil, "run as root, or setcap cap_bpf,cap_perfmon+ep on the binary"},
	{unix.CAP_PERFMON, "CAP_PERFMON", "in-kernel metering", nil, "run as root, or setcap cap_bpf,cap_perfmon+ep on the binary"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "interfaces of other network namespaces", nil,
		"run as root, or add it to both lines of capabilities of the agent's unit"},
}

// effective returns the effective capabilities of this process.
func effective() uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if hex, ok := strings.CutPrefix(lines.Text(), "CapEff:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return n
		}
	}
	return 0
}

func (r *report) host(ctx context.Context) {
	caps := effective()
	for _, c := range capabilities {
		if caps>>c.bit&1 == 1 {
			r.ok("privileges", c.name, "held", c.use)
		} else {
			r.missing("privileges", c.name, "not held", c.use, c.action, c.needs...)
		}
	}
	r.ring(caps)
	r.kernel(ctx, caps)
	r.programs(caps)
	r.buffers(caps)
	r.clock()
	r.memory()
	r.groups()
}

// groups looks for the control groups that an agent bounds itself with.
func (r *report) groups() {
	const check, use = "control groups", "a bound behind the agent's governor"
	switch found, err := privilege.Groups(); {
	case os.Geteuid() != 0 && os.Getenv("INVOCATION_ID") == "":
		r.missing("limits", check, "not tried without root", use, "start the agent as root, which it gives up, or by the package's unit")
	case err != nil:
		r.missing("limits", check, err.Error(), use, "start the agent by the package's unit, or where such groups may be made; priority and governor bound it without")
	default:
		r.ok("limits", check, found, use)
	}
}

// ring tries the capture ring on the loopback interface.
func (r *report) ring(caps uint64) {
	const check, use = "TPACKET_V3 ring with vnet headers", "live capture"
	if caps>>unix.CAP_NET_RAW&1 == 0 {
		r.missing("capture", check, "not tried without CAP_NET_RAW", use, "run as root", "tap")
		return
	}
	if err := tryRing(); err != nil {
		r.missing("capture", check, err.Error(), use, "use a kernel with CONFIG_PACKET, 4.20 or newer", "tap")
		return
	}
	r.ok("capture", check, "received a frame with its vnet header", use)
}

// kernel runs the probes that need a network namespace in a child process with one of its own, and those of programs here when only this process may load them.
func (r *report) kernel(ctx context.Context, caps uint64) {
	if len(r.opt.Probe) == 0 {
		return
	}
	privileged := caps>>unix.CAP_SYS_ADMIN&1 == 1
	userErr := r.userNamespaces(ctx)
	found, untried := map[string]string{}, userErr != nil && !privileged
	if !untried {
		out, err := r.child(ctx, !privileged)
		if err == nil {
			err = json.Unmarshal(out, &found)
		}
		if err != nil {
			r.missing("kernel", "network namespace", err.Error(), "the demo's lab", "run as root", "demo")
			return
		}
	}
	here := map[string]string{}
	if !privileged && caps>>unix.CAP_BPF&1 == 1 && caps>>unix.CAP_NET_ADMIN&1 == 1 {
		here = tryHere()
	}
	for _, p := range probes {
		why, tried := here[p.name]
		if tried {
			found[p.name] = why
		}
		switch {
		case untried && !tried:
			found[p.name] = "not tried: no network namespace"
			r.missing("kernel", p.name, found[p.name], p.use, "run as root", p.needs...)
		case found[p.name] == "":
			r.ok("kernel", p.name, "works", p.use)
		default:
			r.missing("kernel", p.name, found[p.name], p.use, p.action, p.needs...)
		}
	}
	if !untried || len(here) > 0 {
		r.path(found)
	}
}

// path says which path taps take on this machine, and why. It is what tap --path auto finds out by itself.
func (r *report) path(found map[string]string) {
	const check, use = "path of taps", "taps at the least cost for the applications"
	way := ""
	switch {
	case found[checkTCX] == "":
		way = "tcx"
	case found[checkClsact] == "":
		way = "clsact, as TCX is missing (" + found[checkTCX] + ")"
	default:
		r.missing("capture", check, "the packet ring for all: no programs at interfaces: "+found[checkClsact], use, "as root, on Linux 6.6 or newer, copies are made in the kernel")
		return
	}
	if why := found[checkMirror]; why != "" {
		r.missing("capture", check, "the packet ring for all: "+why, use, "Linux 5.14 or newer with /dev/net/tun (modprobe tun)")
		return
	}
	more := "flows and headers with --path"
	if why := found[checkFlows]; why != "" {
		more = "no flows or headers: " + why
	}
	r.ok("capture", check, "filtered or sampled copies for other hosts in the kernel by "+way+", all else by the packet ring; "+more, use)
}

func (r *report) userNamespaces(ctx context.Context) error {
	const check, use = "user namespaces", "the demo without root"
	_, err := r.child(ctx, true)
	switch {
	case err == nil:
		r.ok("privileges", check, "allowed", use)
	case os.Geteuid() == 0:
		r.missing("privileges", check, err.Error(), use, "not needed as root")
	default:
		r.missing("privileges", check, err.Error(), use,
			"run as root, or allow them: sysctl -w kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces=10000", "demo")
	}
	return err
}

// child runs the probe process in a new network namespace, and a new user namespace if user is set.
func (r *report) child(ctx context.Context, user bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.opt.Probe[0], r.opt.Probe[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if user {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("new namespace: %w", err)
	}
	return out, nil
}

func (r *report) programs(caps uint64) {
	const check, use = "eBPF programs for tc", "in-kernel metering"
	if caps>>unix.CAP_BPF&1 == 0 && caps>>unix.CAP_SYS_ADMIN&1 == 0 {
		r.missing("kernel", check, "not tried without CAP_BPF", use, "run as root")
		return
	}
	if err := features.HaveProgramType(ebpf.SchedCLS); err != nil {
		r.missing("kernel", check, err.Error(), use, "without it flows are metered from the capture ring, which costs more")
		return
	}
	r.ok("kernel", check, "load", use)
}

// wantedBuffer is the receive buffer a collector asks for.
const wantedBuffer = 32 << 20

func (r *report) buffers(caps uint64) {
	const check, use = "net.core.rmem_max", "bursts of flow datagrams without loss"
	b, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		r.missing("limits", check, cause(err), use, "")
		return
	}
	limit, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	found := fmt.Sprintf("%d bytes", limit)
	switch {
	case limit >= wantedBuffer:
		r.ok("limits", check, found, use)
	case caps>>unix.CAP_NET_ADMIN&1 == 1:
		r.ok("limits", check, found+"; CAP_NET_ADMIN goes beyond it", use)
	default:
		r.missing("limits", check, fmt.Sprintf("%s, %d wanted", found, wantedBuffer), use, fmt.Sprintf("sysctl -w net.core.rmem_max=%d", wantedBuffer))
	}
}

// clock asks the kernel whether something keeps the clock in step (adjtimex(2)).
func (r *report) clock() {
	const check, use = "synchronised", "comparing times of several hosts"
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		r.missing("clock", check, err.Error(), use, "")
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		r.missing("clock", check, "no: nothing disciplines the kernel's clock", use, "run chrony or systemd-timesyncd")
	default:
		r.ok("clock", check, fmt.Sprintf("yes, estimated error %v", time.Duration(t.Esterror)*time.Microsecond), use)
	}
}

func (r *report) memory() {
	const check, use = "memory", "the query engine"
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err != nil {
		r.missing("limits", check, err.Error(), use, "")
		return
	}
	total := s.Totalram * uint64(s.Unit)
	if total < 512<<20 {
		r.missing("limits", check, fmt.Sprintf("%d MB", total/1e6), use, "bound it with --query-memory 64MiB")
		return
	}
	r.ok("limits", check, fmt.Sprintf("%.1f GB", float64(total)/1e9), use)
}

func freeBytes(dir string) (uint64, bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}
