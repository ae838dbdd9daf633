package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/lab/truth"
	"crosstap/internal/lab/vm"
	"crosstap/internal/testkit"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the lab init and the VMs.
func TestMain(m *testing.M) {
	var err error
	switch strings.Join(os.Args[1:], " ") {
	case "lab init":
		err = Init()
	case "lab vm":
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
		err = RunVM(ctx, os.Stdout)
		stop()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// openScene opens a lab that ends with the test.
func openScene(t *testing.T, topology Topology) *Scene {
	t.Helper()
	s, err := Open(t.Context(), Config{InitArgs: []string{"lab", "init"}, Dir: t.TempDir(), Verbose: testing.Verbose()}, topology)
	if errors.Is(err, ErrDenied) {
		testkit.Missing(t, err.Error())
	}
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// talked reports whether the truth has all kinds of traffic, in both tenants.
func talked(t *testing.T, s *Scene) bool {
	t.Helper()
	for _, v := range s.VMs {
		kinds := map[string]bool{}
		b, err := os.ReadFile(filepath.Join(s.Dir, TruthFile(v.Name)))
		must(t, err)
		for b = b[min(24, len(b)):]; len(b) >= 16; { // pcap, without our reader
			n := 16 + int(binary.NativeEndian.Uint32(b[8:]))
			if n > len(b) {
				break
			}
			if f := b[16:n]; len(f) >= 14+20+4 && f[12] == 8 { // IPv4 without options
				kinds[fmt.Sprintf("4 %d/%d", f[23], binary.BigEndian.Uint16(f[34:]))] = true // either way
				kinds[fmt.Sprintf("4 %d/%d", f[23], binary.BigEndian.Uint16(f[36:]))] = true
				kinds[fmt.Sprintf("4 %d", f[23])] = true
			} else if len(f) >= 14+40+4 && f[12] == 0x86 {
				kinds[fmt.Sprintf("6 %d/%d", f[20], binary.BigEndian.Uint16(f[54:]))] = true
				kinds[fmt.Sprintf("6 %d/%d", f[20], binary.BigEndian.Uint16(f[56:]))] = true
				kinds[fmt.Sprintf("6 %d", f[20])] = true
			}
			b = b[n:]
		}
		want := map[string][]string{"client": {"4 6/80", "6 6/80", "4 6/873", "4 17/53", "4 1", "6 58"}, "web": {"4 6/5432", "6 6/5432"}}[v.Role]
		if slices.ContainsFunc(want, func(k string) bool { return !kinds[k] }) {
			return false
		}
	}
	return true
}

// play runs the VMs' programs for a while, until all kinds of traffic have been; every request must have been answered.
func play(t *testing.T, s *Scene, d time.Duration) []vm.Report {
	t.Helper()
	must(t, s.StartVMs(t.Context()))
	time.Sleep(d)
	for end := time.Now().Add(time.Minute); !talked(t, s) && time.Now().Before(end); { // a busy machine begins late
		time.Sleep(100 * time.Millisecond)
	}
	reports, err := s.StopVMs(t.Context())
	must(t, err)
	for _, r := range reports {
		if r.Failures > 0 || r.Served+r.Asked == 0 {
			t.Errorf("%s: %d served, %d asked, %d failures (%s)", r.VM, r.Served, r.Asked, r.Failures, r.Failure)
		}
	}
	return reports
}

// TestScene runs the whole lab with a tcpdump at each kind of tap. The sensor must get each packet that
// enters a bridge of its host exactly once, the uplink each packet between the hosts, as the VMs sent them.
func TestScene(t *testing.T) {
	testkit.Tool(t, "tcpdump")
	tshark := testkit.Tool(t, "tshark")
	s := openScene(t, Default(false, true))
	capture := func(name, ns, iface, filter string) {
		t.Helper()
		must(t, s.Run(t.Context(), Process{Name: name, Namespace: ns, Ready: "listening on", Argv: []string{
			"tcpdump", "-i", iface, "-n", "-s", "256", "-B", "16384", "--immediate-mode", "-U", "-Z", "root", "-w", name + ".pcap", filter}}))
	}
	capture("mirror", "sensor-1", "tap0", "ip or ip6")
	capture("uplink", "h2", "uplink", "udp port 4789")
	must(t, s.StartTruth(t.Context()))
	play(t, s, 3*time.Second)
	must(t, s.StopTruth(t.Context()))
	for _, name := range []string{"mirror", "uplink"} {
		_, err := s.Stop(t.Context(), name, int(unix.SIGINT), truthGrace)
		must(t, err)
		must(t, complete(readFrom(logPath(s.Dir, name), 0)))
	}
	sent, err := s.ReadTruth(t.Context(), tshark)
	must(t, err)
	checkKinds(t, sent)
	passing, crossing := truth.Flows{}, map[uint32]uint64{}
	for k, c := range sent {
		a, b := s.ByAddr(k.VNI, k.Src), s.ByAddr(k.VNI, k.Dst)
		seenBy := s.SeenBy(a, b)
		if len(seenBy) == 0 {
			t.Errorf("%v is seen by nobody", k)
		}
		if a.Host != b.Host {
			crossing[k.VNI] += c.Packets
		}
		if slices.Contains(seenBy, "h1 mirror") {
			k.VNI = 0 // the mirror's stream carries no segment: both tenants together
			passing.Merge(truth.Flows{k: c})
		}
	}
	mirrored := truth.Flows{}
	must(t, mirrored.Read(t.Context(), tshark, filepath.Join(s.Dir, "mirror.pcap"), 0))
	if d := truth.Compare(passing, mirrored); len(d) > 0 {
		t.Errorf("the mirror: %d of %d directions differ, such as %+v", len(d), len(passing), d[0])
	}
	for _, tenant := range s.Tenants {
		out, err := exec.CommandContext(t.Context(), tshark, "-n", "-r", filepath.Join(s.Dir, "uplink.pcap"), "-Y",
			fmt.Sprintf("vxlan.vni == %d && !arp && !(ipv6.dst == ff02::/16)", tenant.VNI)).Output()
		must(t, err)
		if got := uint64(strings.Count(string(out), "\n")); got != crossing[tenant.VNI] {
			t.Errorf("VNI %d on the uplink: %d packets, the VMs sent %d", tenant.VNI, got, crossing[tenant.VNI])
		}
	}
}

// checkKinds looks for all the kinds of traffic that the lab promises, in both tenants.
func checkKinds(t *testing.T, sent truth.Flows) {
	t.Helper()
	kinds := map[string]bool{}
	for k := range sent {
		family := "IPv4"
		if k.Src.Is6() {
			family = "IPv6"
		}
		kinds[fmt.Sprintf("%d %s %d/%d", k.VNI, family, k.Proto, k.DstPort)] = true
	}
	for _, vni := range []uint32{5001, 5002} {
		for _, want := range []string{"IPv4 6/80", "IPv6 6/80", "IPv4 6/5432", "IPv6 6/5432", "IPv4 6/873", "IPv4 17/53", "IPv4 1/0", "IPv6 58/0"} {
			if want := fmt.Sprintf("%d %s", vni, want); !kinds[want] {
				t.Errorf("no traffic of kind %q; there are %v", want, slices.Sorted(maps.Keys(kinds)))
			}
		}
	}
}

// TestOffloads lets the kernel pass super-frames: the programs must still work, and what the truth captures
// must be wire segments.
func TestOffloads(t *testing.T) {
	testkit.Tool(t, "tcpdump")
	tshark := testkit.Tool(t, "tshark")
	s := openScene(t, Default(true, true))
	must(t, s.StartTruth(t.Context()))
	play(t, s, 3*time.Second)
	must(t, s.StopTruth(t.Context()))
	sent, err := s.ReadTruth(t.Context(), tshark)
	must(t, err)
	checkKinds(t, sent)
	for k, c := range sent {
		if c.Octets > c.Packets*TenantMTU {
			t.Errorf("%v: %d packets with %d bytes: more than the MTU", k, c.Packets, c.Octets)
		}
	}
}

// TestClose kills the lab at once: processes and namespaces go, the directory stays with the caller.
func TestClose(t *testing.T) {
	s := openScene(t, Default(false, false))
	must(t, s.StartVMs(t.Context()))
	spaces := namespacesOf(t, s.Dir)
	if len(spaces) < len(s.VMs) {
		t.Fatalf("%d namespaces with processes of the lab, want at least %d", len(spaces), len(s.VMs))
	}
	must(t, s.Close())
	if left := namespacesOf(t, s.Dir); len(left) > 0 {
		t.Errorf("processes are left in %v", left)
	}
	if err := s.Run(t.Context(), Process{Name: "late", Namespace: "h1", Argv: []string{"true"}}); err == nil {
		t.Error("a closed lab must refuse orders")
	}
}

// namespacesOf returns the network namespaces of all processes that run in a directory.
func namespacesOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	cwds, err := filepath.Glob("/proc/[0-9]*/cwd")
	must(t, err)
	for _, cwd := range cwds {
		if at, err := os.Readlink(cwd); err != nil || at != dir {
			continue
		}
		if ns, err := os.Readlink(filepath.Join(filepath.Dir(cwd), "ns", "net")); err == nil {
			found[ns] = true
		}
	}
	return found
}

// TestSupervision kills a process: it is reported and starts again; the others go on.
func TestSupervision(t *testing.T) {
	s := openScene(t, Default(false, false))
	p := Process{Name: "sleeper", Namespace: "h1", Argv: []string{"sh", "-c", "echo awake; exec sleep 60"}, Ready: "awake", Restart: true}
	must(t, s.Run(t.Context(), p))
	if err := s.Run(t.Context(), p); err == nil {
		t.Error("a second process with that name must be refused")
	}
	must(t, s.Run(t.Context(), Process{Name: "killer", Namespace: "h1", Argv: []string{"sh", "-c", "kill -9 $(pidof sleep)"}}))
	for e := range s.Events() {
		if e.Process == "killer" {
			continue
		}
		if diff := cmp.Diff(Event{Process: "sleeper", Status: "signal: killed", Restart: true}, e); diff != "" {
			t.Error(diff)
		}
		break
	}
	exit, err := s.Stop(t.Context(), "sleeper", int(unix.SIGTERM), time.Minute)
	must(t, err)
	if exit.Status != "signal: terminated" {
		t.Errorf("%+v", exit)
	}
	if err := s.Run(t.Context(), Process{Name: "broken", Namespace: "h1", Argv: []string{"sh", "-c", "echo no luck >&2; exit 3"}, Notify: true}); err == nil ||
		!strings.Contains(err.Error(), "exit status 3: no luck") {
		t.Errorf("a process that ends before it is ready: %v", err)
	}
}
