package main

import (
	"net"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
)

// firstVLAN is the VLAN that stands for the first segment.
const firstVLAN = 100

// export sends the rows as IPFIX datagrams, rate of them in a second: what collectors know that know no overlay. A segment is told as a VLAN.
func export(addr string, w *world, rows, rate int) (err error) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	enc := ipfix.NewEncoder(ipfix.EncoderConfig{Profile: ipfix.OVS, Domain: 1, MaxLen: 1400})
	start, sent := time.Now(), 0
	emit := func(msg []byte, n int) error {
		sent += n
		if ahead := time.Until(start.Add(time.Duration(sent) * time.Second / time.Duration(rate))); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
		_, err := c.Write(msg)
		return err
	}
	batch := make([]flow.Record, 512)
	for n := 0; n < rows; {
		got := w.fill(batch)
		for i := range batch[:got] {
			r := plain(&batch[i])
			if err := enc.Add(&r, start, emit); err != nil {
				return err
			}
		}
		n += got
	}
	return enc.Flush(start, emit)
}

// plain leaves of a row what every exporter tells.
func plain(r *flow.Record) flow.Record {
	return flow.Record{
		StartNS: r.StartNS, EndNS: r.EndNS, Src: r.Src, Dst: r.Dst, SrcPort: r.SrcPort, DstPort: r.DstPort, Proto: r.Proto, TCPFlags: r.TCPFlags, EtherType: r.EtherType,
		SrcMAC: r.SrcMAC, DstMAC: r.DstMAC, Packets: r.Packets, Octets: r.Octets, L2Octets: r.L2Octets, MinTTL: r.MinTTL, MaxTTL: r.MaxTTL, VLAN: uint16(r.Segment.Number()-firstSegment) + firstVLAN,
	}
}
