//go:build linux

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"crosstap/internal/lab"
	"crosstap/internal/lab/truth"
	"crosstap/internal/testkit"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestForeignCollectors sends every tap's records to nfcapd and past tshark, beside our own JSON lines. nfcapd must
// store them without complaint and add up to the same sums; tshark must find no malformed message and read the
// same values from our fields.
func TestForeignCollectors(t *testing.T) {
	nfcapd, nfdump := testkit.Tool(t, "nfcapd"), testkit.Tool(t, "nfdump")
	tshark := testkit.Tool(t, "tshark")
	testkit.Tool(t, "tcpdump")
	s := openScene(t, lab.Default(false, true))
	for _, o := range s.Observers {
		must(t, os.Mkdir(filepath.Join(s.Dir, storeOf(o)), 0o777))
		must(t, s.Run(t.Context(), lab.Process{Name: storeOf(o), Namespace: lab.CollectorNS, Ready: "Startup nfcapd",
			Argv: []string{nfcapd, "-p", portOf(o), "-l", storeOf(o), "-t", testkit.OneFile}}))
		must(t, s.Run(t.Context(), lab.Process{Name: wireOf(o), Namespace: lab.CollectorNS, Ready: "listening on", Argv: []string{
			"tcpdump", "-i", "mgmt0", "-n", "--immediate-mode", "-B", "16384", "-U", "-Z", "root", "-w", wireOf(o), "udp port " + portOf(o)}}))
		p := s.TapProcess(o, 2*time.Second, "flows:-", fmt.Sprintf("ipfix://%s:%s?profile=%s&domain=%d", s.Collector, portOf(o), o.Profile, o.Domain))
		p.Out = lab.TapName(o) + ".json"
		must(t, s.Run(t.Context(), p))
	}
	perform(t, s, 5*time.Second)
	for _, o := range s.Observers {
		_, err := s.Stop(t.Context(), wireOf(o), int(unix.SIGINT), patience)
		must(t, err)
		exit, err := s.Stop(t.Context(), storeOf(o), int(unix.SIGTERM), patience)
		must(t, err)
		if !exit.Clean {
			t.Errorf("nfcapd: %s", exit.Status)
		}
		t.Run(o.Name, func(t *testing.T) {
			records := readLines(t, filepath.Join(s.Dir, lab.TapName(o)+".json"))
			nfcapdAgrees(t, nfdump, filepath.Join(s.Dir, storeOf(o)), o, records)
			tsharkAgrees(t, tshark, filepath.Join(s.Dir, wireOf(o)), o, records)
		})
	}
}

// What belongs to an observer's foreign collector: its port, its process and directory, the capture of its wire.
func portOf(o lab.Observer) string  { return strconv.Itoa(9000 + int(o.Domain)) }
func storeOf(o lab.Observer) string { return "nfcapd-" + portOf(o) }
func wireOf(o lab.Observer) string  { return "wire-" + portOf(o) }

var complaint = regexp.MustCompile(`(?i)error|warn|skip|corrupt|unknown|invalid|fail|bad`)

// nfcapdAgrees checks nfcapd's log and what it stored.
func nfcapdAgrees(t *testing.T, nfdump, store string, o lab.Observer, records []record) {
	t.Helper()
	log, err := os.ReadFile(store + ".log")
	must(t, err)
	said := strings.ReplaceAll(string(log), "Sequence Errors: 0, Bad Packets: 0", "no complaints")
	if !strings.Contains(said, "no complaints") {
		t.Errorf("nfcapd does not say that there were no errors")
	}
	for line := range strings.Lines(said) {
		// nfcapd 1.7 takes the names of interfaces for a table of applications, because their length varies, and passes over them.
		if complaint.MatchString(line) && !strings.Contains(line, "nbar option size error") {
			t.Errorf("nfcapd: %s", line)
		}
	}
	out, err := exec.CommandContext(t.Context(), nfdump, "-R", store, "-q", "-N", "-6", "-o", "fmt:%sa %da %pr %sp %dp %pkt %byt").Output()
	must(t, err)
	stored, want := truth.Flows{}, truth.Flows{}
	for line := range strings.Lines(string(out)) {
		stored.Merge(truth.Flows{nfdumpLine(t, line, o): nfdumpCount(t, line)})
	}
	for _, r := range records {
		want.Merge(truth.Flows{foreignKey(t, r, o): {Packets: r.Packets, Octets: r.Octets}})
	}
	if d := truth.Compare(want, stored); len(d) > 0 {
		t.Errorf("nfdump: %d of %d keys differ, such as %+v", len(d), len(want), d[0])
	}
}

// foreignKey is what nfcapd knows of a record: no segment, and with the vmware profile the outer addresses.
func foreignKey(t *testing.T, r record, o lab.Observer) truth.Key {
	t.Helper()
	src, dst := r.Src, r.Dst
	if o.Profile == "vmware" {
		return truth.Key{Proto: truth.UDP, Src: netip.MustParseAddr(r.SrcVTEP), Dst: netip.MustParseAddr(r.DstVTEP)}
	}
	if src == "" {
		src = "::"
	}
	k := truth.Key{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: protocols[r.Proto], SrcPort: r.SrcPort, DstPort: r.DstPort}
	if k.Dst.IsLinkLocalMulticast() {
		k.Dst = netip.MustParseAddr("::") // Flows leaves multicast out; here it counts
	}
	return k
}

// nfdumpLine reads the key of a line.
func nfdumpLine(t *testing.T, line string, o lab.Observer) truth.Key {
	t.Helper()
	w := strings.Fields(line)
	if len(w) != 7 {
		t.Fatalf("nfdump: %q", line)
	}
	k := truth.Key{Src: netip.MustParseAddr(w[0]), Dst: netip.MustParseAddr(w[1]), Proto: uint8(number(t, w[2]))}
	if o.Profile != "vmware" && (k.Proto == truth.TCP || k.Proto == truth.UDP) {
		k.SrcPort, k.DstPort = uint16(number(t, w[3])), uint16(number(t, w[4]))
	}
	if k.Dst.IsLinkLocalMulticast() {
		k.Dst = netip.MustParseAddr("::")
	}
	return k
}

func nfdumpCount(t *testing.T, line string) truth.Count {
	t.Helper()
	w := strings.Fields(line)
	return truth.Count{Packets: number(t, w[5]), Octets: number(t, w[6])}
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 0, 64)
	must(t, err)
	return n
}

// tsharkAgrees looks for complaints of tshark and compares the values of fields that are in every record.
func tsharkAgrees(t *testing.T, tshark, file string, o lab.Observer, records []record) {
	t.Helper()
	as := "udp.port==" + portOf(o) + ",cflow"
	out, err := exec.CommandContext(t.Context(), tshark, "-n", "-r", file, "-d", as, "-Y", "_ws.malformed || _ws.expert").Output()
	must(t, err)
	if len(out) > 0 {
		t.Errorf("tshark complains: %s", out)
	}
	out, err = exec.CommandContext(t.Context(), tshark, "-n", "-r", file, "-d", as, "-T", "fields", "-E", "aggregator=,",
		"-e", "cflow.srcmac", "-e", "cflow.dstmac", "-e", "cflow.packets", "-e", "cflow.octets", "-e", "cflow.layer2_segment_id").Output()
	must(t, err)
	var read, want []string
	for line := range strings.Lines(string(out)) {
		columns := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if columns[0] == "" {
			continue // templates only
		}
		var cells [5][]string
		for i := range cells {
			cells[i] = strings.Split(columns[i], ",")
			if len(cells[i]) != len(cells[0]) {
				t.Fatalf("tshark: %d and %d values in one message: %s", len(cells[0]), len(cells[i]), line)
			}
		}
		for i := range cells[0] {
			read = append(read, fmt.Sprintf("%s %s %s %s %d", cells[0][i], cells[1][i], cells[2][i], cells[3][i], number(t, cells[4][i])))
		}
	}
	for _, r := range records {
		segment := uint64(0)
		if r.VNI != 0 {
			segment = 1<<56 | uint64(r.VNI) // IANA element 351: type 1 is VXLAN
		}
		want = append(want, fmt.Sprintf("%s %s %d %d %d", r.SrcMAC, r.DstMAC, r.Packets, r.Octets, segment))
	}
	slices.Sort(read)
	slices.Sort(want)
	if diff := cmp.Diff(want, read); diff != "" {
		t.Errorf("tshark reads other values: %s", diff)
	}
}
