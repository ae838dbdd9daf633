package groom_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// TestStripIsWhatTsharkSeesInside takes every tunnel and tag off the frames of the corpus and compares with what tshark
// found in the innermost packet before: protocols, addresses, ports, and whether the checksums are right.
func TestStripIsWhatTsharkSeesInside(t *testing.T) {
	tshark, seen := testkit.Tool(t, "tshark"), map[string]int{}
	type pair struct {
		was, stays []frame.Frame
	}
	links := map[frame.LinkType]*pair{}
	var names []string
	corpus(t, func(name string, frames []frame.Frame) {
		p := pipeline(t, "strip=all/link=ethernet")
		for i, f := range frames[:min(len(frames), 300)] {
			was := issues(&frames[i])
			g := apply(t, p, frames[i:i+1])[0][0]
			if f.OrigLen > 0xffff { // tshark does not look inside BIG TCP
				continue
			}
			if g.Link != frame.LinkEthernet || len(g.Data) == len(f.Data) || was.Issues&(dissect.Malformed|dissect.Deep) != 0 {
				continue
			}
			for _, l := range was.Layers[:was.NLayers] {
				seen[l.Kind.String()]++
			}
			x := links[f.Link]
			if x == nil {
				x = new(pair)
				links[f.Link] = x
			}
			x.was, x.stays = append(x.was, f), append(x.stays, g)
			if f.Link == frame.LinkEthernet {
				names = append(names, fmt.Sprint(name, " frame ", i+1))
			}
		}
	})
	for link, x := range links {
		dir := t.TempDir()
		in, out := filepath.Join(dir, "in.pcap"), filepath.Join(dir, "out.pcap")
		save(t, in, link, x.was)
		save(t, out, frame.LinkEthernet, x.stays)
		before, after := fields(t, tshark, in), fields(t, tshark, out)
		for i := range after {
			if why := inside(before[i], after[i]); why != "" {
				name := fmt.Sprint("link ", link, " frame ", i+1)
				if link == frame.LinkEthernet {
					name = names[i]
				}
				t.Errorf("%s: %s\n- %s\n+ %s", name, why, strings.Join(before[i], ";"), strings.Join(after[i], ";"))
			}
		}
	}
	for _, k := range []string{"vlan", "vntag", "mpls", "pppoe", "vxlan", "geneve", "gre", "erspan2", "erspan3", "gtp", "nsh", "ppp", "pbb"} {
		if seen[k] == 0 {
			t.Errorf("no frame with %s was stripped", k)
		}
	}
	t.Log(seen)
}

// inside says how a stripped frame differs from the innermost packet of the frame that it was.
func inside(before, after []string) string {
	transport := []string{"tcp", "udp", "icmp", "icmpv6", "igmp", "arp"}
	chain := func(s string) []string {
		var all []string
		for p := range strings.SplitSeq(s, ":") {
			if p != "eth" && p != "ethertype" && (len(all) == 0 || p != "igmp" || all[len(all)-1] != p) {
				all = append(all, p)
			}
		}
		return all
	}
	is := chain(after[0])
	if slices.Contains(is, "wlan") { // which the dissector does not read
		return ""
	}
	if i := slices.IndexFunc(is, func(p string) bool { return slices.Contains(transport, p) }); i >= 0 {
		is = is[:i+1]
		was := chain(before[0])
		if last := lastOf(was, is[i]); last < i || !slices.Equal(was[last-i:last+1], is) {
			return "other protocols"
		}
	}
	for f := 1; f < len(after); f++ {
		values := strings.Split(before[f], ",")
		if after[f] != "" && !strings.Contains(after[f], ",") && values[len(values)-1] != after[f] {
			return fmt.Sprintf("field %d is %s, inside it was %s", f, after[f], before[f])
		}
	}
	return ""
}

func lastOf(all []string, s string) int {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i] == s {
			return i
		}
	}
	return -1
}

// fields returns tshark's values for each frame.
func fields(t *testing.T, tshark, path string) [][]string {
	t.Helper()
	args := []string{"-r", path, "-n", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
		"-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE", "-d", "udp.port==8472,vxlan", "-d", "udp.port==6635,mpls",
		"-T", "fields", "-E", "occurrence=a", "-E", "separator=;"}
	for _, f := range []string{"frame.protocols", "ip.src", "ip.dst", "ip.id", "ip.ttl", "ip.len", "ip.checksum.status", "ipv6.src", "ipv6.dst", "ipv6.plen", "ipv6.hlim",
		"tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.checksum.status", "udp.srcport", "udp.dstport", "udp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status"} {
		args = append(args, "-e", f)
	}
	out, err := exec.Command(tshark, args...).Output()
	if err != nil {
		t.Fatal(fmt.Errorf("tshark %s: %w", path, err))
	}
	var all [][]string
	for l := range strings.Lines(string(out)) {
		all = append(all, strings.Split(strings.TrimRight(l, "\n"), ";"))
	}
	return all
}
