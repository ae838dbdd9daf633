//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"crosstap/internal/lab"
	"crosstap/internal/lab/truth"
	"crosstap/internal/testkit"
)

// openScene opens a lab whose processes are the real binary.
func openScene(t *testing.T, topology lab.Topology) *lab.Scene {
	t.Helper()
	s, err := lab.Open(t.Context(), lab.Config{Exe: binary(t), InitArgs: []string{"lab", "init"}, Dir: t.TempDir()}, topology)
	if errors.Is(err, lab.ErrDenied) {
		testkit.Missing(t, err.Error())
	}
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// perform runs the VMs for a while and drains the taps.
func perform(t *testing.T, s *lab.Scene, d time.Duration) {
	t.Helper()
	must(t, s.StartVMs(t.Context()))
	time.Sleep(d)
	reports, err := s.StopVMs(t.Context())
	must(t, err)
	for _, r := range reports {
		if r.Failures > 0 {
			t.Errorf("%s: %d of %d requests failed: %s", r.VM, r.Failures, r.Asked, r.Failure)
		}
	}
	must(t, s.StopTaps(t.Context()))
}

// record is what the test reads of a line of flows:-.
type record struct {
	VNI     uint32 `json:"vni"`
	SrcVTEP string `json:"src_vtep"`
	DstVTEP string `json:"dst_vtep"`
	SrcMAC  string `json:"src_mac"`
	DstMAC  string `json:"dst_mac"`
	Src     string `json:"src_addr"`
	Dst     string `json:"dst_addr"`
	SrcPort uint16 `json:"src_port"`
	DstPort uint16 `json:"dst_port"`
	Proto   string `json:"proto"`
	Packets uint64 `json:"packets"`
	Octets  uint64 `json:"octets"`
}

var protocols = map[string]uint8{"tcp": truth.TCP, "udp": truth.UDP, "icmp": truth.ICMP, "icmp6": truth.ICMPv6}

// TestTaps compares each tap alone with what passed its place: to the last packet and byte, with and without
// super-frames. The mirror and the agent see no segment, so their packets are told apart by their MACs.
func TestTaps(t *testing.T) {
	testkit.Tool(t, "tcpdump")
	tshark := testkit.Tool(t, "tshark")
	for _, offloads := range []bool{false, true} {
		t.Run(fmt.Sprintf("offloads=%t", offloads), func(t *testing.T) {
			topology := lab.Default(offloads, true)
			s := openScene(t, topology)
			must(t, s.StartTruth(t.Context()))
			for _, o := range topology.Observers {
				p := topology.TapProcess(o, 2*time.Second, "flows:-")
				p.Out = lab.TapName(o) + ".json"
				must(t, s.Run(t.Context(), p))
			}
			perform(t, s, 7*time.Second)
			must(t, s.StopTruth(t.Context()))
			sent, err := s.ReadTruth(t.Context(), tshark)
			must(t, err)
			for _, o := range topology.Observers {
				passed := truth.Flows{}
				for k, c := range sent {
					if slices.Contains(topology.SeenBy(topology.ByAddr(k.VNI, k.Src), topology.ByAddr(k.VNI, k.Dst)), o.Name) {
						passed.Merge(truth.Flows{k: c})
					}
				}
				metered := readRecords(t, &topology, o, filepath.Join(s.Dir, lab.TapName(o)+".json"))
				differences := truth.Compare(passed, metered)
				for i, d := range differences {
					if i == 10 {
						t.Errorf("… and %d more", len(differences)-i)
						break
					}
					t.Errorf("%s: %v: %d packets, %d bytes passed, but %d packets, %d bytes metered", o.Name, d.Key,
						d.Sent.Packets, d.Sent.Octets, d.Got.Packets, d.Got.Octets)
				}
				total := passed.Total()
				t.Logf("%s: %d directions, %d packets, %d bytes", o.Name, len(passed), total.Packets, total.Octets)
			}
		})
	}
}

// readLines returns the flow records that a tap wrote.
func readLines(t *testing.T, path string) []record {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	var all []record
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r record
		must(t, json.Unmarshal(lines.Bytes(), &r))
		all = append(all, r)
	}
	return all
}

// readRecords sums the flow records of one tap.
func readRecords(t *testing.T, topology *lab.Topology, o lab.Observer, path string) truth.Flows {
	t.Helper()
	sums := truth.Flows{}
	for _, r := range readLines(t, path) {
		if o.Role == "tunnel" && (r.VNI == 0 || r.SrcVTEP == "" || r.DstVTEP == "") {
			t.Errorf("%s: no segment or VTEP: %+v", o.Name, r)
		}
		vni := r.VNI
		for _, v := range topology.VMs {
			if v.MAC == r.SrcMAC || v.MAC == r.DstMAC && vni == 0 {
				if vni != 0 && vni != topology.VNI(v.Tenant) {
					t.Errorf("%s: a frame of %s under VNI %d", o.Name, v.Name, vni)
				}
				vni = topology.VNI(v.Tenant)
			}
		}
		dst, err := netip.ParseAddr(r.Dst)
		must(t, err)
		if dst.IsLinkLocalMulticast() {
			continue // also sent from ::, which a record cannot tell from "not known"
		}
		src, err := netip.ParseAddr(r.Src)
		must(t, err)
		proto, ok := protocols[r.Proto]
		if !ok {
			t.Errorf("%s: protocol %q", o.Name, r.Proto)
		}
		sums.Add(truth.Key{VNI: vni, Proto: proto, Src: src, Dst: dst, SrcPort: r.SrcPort, DstPort: r.DstPort}, r.Packets, r.Octets)
	}
	return sums
}
