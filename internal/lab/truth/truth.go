// Package truth says what the VMs of a lab really sent, by the word of tcpdump and tshark, and compares it
// with what crosstap reports. It shares no code with the meter it judges.
package truth

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// IP protocols that have names.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// Key is one direction of one conversation. Ports are 0 for protocols other than TCP and UDP.
type Key struct {
	VNI              uint32
	Proto            uint8
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
}

// String gives "5001 tcp 10.0.0.3:40000 > 10.0.0.1:80".
func (k Key) String() string {
	return fmt.Sprintf("%d %s %s > %s", k.VNI, k.ProtoName(), k.Source(), k.Destination())
}

// Source returns the sending address, with its port where there is one.
func (k Key) Source() string { return end(k.Src, k.SrcPort) }

// Destination returns the receiving address, with its port where there is one.
func (k Key) Destination() string { return end(k.Dst, k.DstPort) }

func end(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

// ProtoName returns the protocol's name, or its number.
func (k Key) ProtoName() string {
	switch k.Proto {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMPv6:
		return "icmpv6"
	}
	return strconv.Itoa(int(k.Proto))
}

// Count is what one direction carried: wire segments and their IP total lengths.
type Count struct{ Packets, Octets uint64 }

// Flows is a set of directions with what they carried.
type Flows map[Key]Count

// Add counts packets of k, unless k is link-local multicast: that is the hosts' own housekeeping.
func (f Flows) Add(k Key, packets, octets uint64) {
	if k.Dst.IsLinkLocalMulticast() || packets == 0 {
		return
	}
	if k.Proto != TCP && k.Proto != UDP {
		k.SrcPort, k.DstPort = 0, 0
	}
	c := f[k]
	f[k] = Count{c.Packets + packets, c.Octets + octets}
}

// Merge adds what o counted.
func (f Flows) Merge(o Flows) {
	for k, c := range o {
		f.Add(k, c.Packets, c.Octets)
	}
}

// Total sums all directions.
func (f Flows) Total() Count {
	var t Count
	for _, c := range f {
		t.Packets += c.Packets
		t.Octets += c.Octets
	}
	return t
}

// The fields that tshark prints, in this order. Occurrences after the first belong to packets quoted in ICMP errors.
var fields = []string{
	"ip.src", "ip.dst", "ip.proto", "ip.len",
	"ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.plen", "ipv6.fraghdr.nxt",
	"tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport",
}

// Read adds what tshark finds in a capture file of one VM's traffic in segment vni.
func (f Flows) Read(ctx context.Context, tshark, file string, vni uint32) error {
	args := []string{"-n", "-r", file, "-T", "fields", "-E", "occurrence=f", "-E", "separator=/t",
		"-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE", "-o", "tcp.analyze_sequence_numbers:FALSE"}
	for _, name := range fields {
		args = append(args, "-e", name)
	}
	cmd := exec.CommandContext(ctx, tshark, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("truth: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("truth: %w", err)
	}
	err = f.parse(out, vni)
	if e := cmd.Wait(); e != nil {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("truth: tshark %s: %w: %s", file, err, strings.TrimSpace(complaint.String()))
	}
	return nil
}

// parse reads tshark's lines.
func (f Flows) parse(r io.Reader, vni uint32) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		cells := strings.Split(lines.Text(), "\t")
		if len(cells) != len(fields) {
			return fmt.Errorf("line %d: %d fields, want %d", n, len(cells), len(fields))
		}
		k, octets, err := packet(cells)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		k.VNI = vni
		f.Add(k, 1, octets)
	}
	return lines.Err()
}

// packet reads one line's cells.
func packet(cells []string) (k Key, octets uint64, err error) {
	src, dst, proto, length, header := cells[0], cells[1], cells[2], cells[3], uint64(0)
	if src == "" {
		src, dst, proto, length, header = cells[4], cells[5], cells[6], cells[7], 40
		if cells[8] != "" { // behind a fragment header
			proto = cells[8]
		}
	}
	if k.Src, err = netip.ParseAddr(src); err != nil {
		return k, 0, err
	}
	if k.Dst, err = netip.ParseAddr(dst); err != nil {
		return k, 0, err
	}
	p, err := strconv.ParseUint(proto, 10, 8)
	if err != nil {
		return k, 0, err
	}
	k.Proto = uint8(p)
	if octets, err = strconv.ParseUint(length, 10, 32); err != nil {
		return k, 0, err
	}
	switch k.Proto {
	case TCP:
		k.SrcPort, k.DstPort = port(cells[9]), port(cells[10])
	case UDP:
		k.SrcPort, k.DstPort = port(cells[11]), port(cells[12])
	}
	return k, octets + header, nil
}

// port reads a port; a fragment after the first has none.
func port(s string) uint16 {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// Difference is one direction on which the lab and crosstap do not agree.
type Difference struct {
	Key       Key
	Sent, Got Count // zero: not there
}

// Compare returns the differences, ordered by key.
func Compare(sent, got Flows) []Difference {
	var d []Difference
	for k, c := range sent {
		if got[k] != c {
			d = append(d, Difference{k, c, got[k]})
		}
	}
	for k, c := range got {
		if _, ok := sent[k]; !ok {
			d = append(d, Difference{Key: k, Got: c})
		}
	}
	slices.SortFunc(d, func(a, b Difference) int { return a.Key.compare(b.Key) })
	return d
}

func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.VNI, o.VNI), cmp.Compare(k.Proto, o.Proto), k.Src.Compare(o.Src), k.Dst.Compare(o.Dst),
		cmp.Compare(k.SrcPort, o.SrcPort), cmp.Compare(k.DstPort, o.DstPort))
}

// VNIs returns the segments that occur, ascending.
func (f Flows) VNIs() []uint32 {
	set := map[uint32]bool{}
	for k := range f {
		set[k.VNI] = true
	}
	return slices.Sorted(maps.Keys(set))
}
