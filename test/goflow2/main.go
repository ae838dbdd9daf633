// Command goflow2 reads datagrams of flows, each with its length as two bytes in front, from standard input, has goflow2 make its flow messages of
// them, and prints what they add up to as JSON.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"
	"github.com/netsampler/goflow2/v2/decoders/sflow"
	"github.com/netsampler/goflow2/v2/producer"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
)

// totals are what the messages add up to.
type totals struct {
	Flows, Packets, Octets uint64
	StartMS, EndMS         uint64 // sums of the times, in milliseconds since the first of January 2026
}

const epochMS = 1767225600000

func main() {
	sum, err := read(bufio.NewReader(os.Stdin))
	if err != nil {
		fmt.Fprintln(os.Stderr, "goflow2:", err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(sum)
}

func read(in io.Reader) (sum totals, err error) {
	cfg, err := (&protoproducer.ProducerConfig{}).Compile()
	if err != nil {
		return sum, err
	}
	p, err := protoproducer.CreateProtoProducer(cfg, protoproducer.CreateSamplingSystem)
	if err != nil {
		return sum, err
	}
	templates := netflow.CreateTemplateSystem()
	for {
		var length [2]byte
		if _, err := io.ReadFull(in, length[:]); errors.Is(err, io.EOF) {
			return sum, nil
		} else if err != nil {
			return sum, err
		}
		datagram := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(in, datagram); err != nil {
			return sum, err
		}
		packet, err := decode(datagram, templates)
		if err != nil {
			return sum, err
		}
		addr := netip.MustParseAddr("127.0.0.1")
		messages, err := p.Produce(packet, &producer.ProduceArgs{Src: netip.AddrPortFrom(addr, 40000), SamplerAddress: addr, TimeReceived: time.Now()})
		if err != nil {
			return sum, err
		}
		sum.add(messages)
	}
}

// decode tells sFlow, NetFlow and IPFIX apart by their first bytes.
func decode(b []byte, templates netflow.NetFlowTemplateSystem) (any, error) {
	buf := bytes.NewBuffer(b)
	switch {
	case len(b) > 4 && binary.BigEndian.Uint32(b) == 5:
		p := &sflow.Packet{}
		return p, sflow.DecodeMessageVersion(buf, p)
	case len(b) > 2 && binary.BigEndian.Uint16(b) == 5:
		p := &netflowlegacy.PacketNetFlowV5{}
		return p, netflowlegacy.DecodeMessageVersion(buf, p)
	}
	var v9 netflow.NFv9Packet
	var v10 netflow.IPFIXPacket
	err := netflow.DecodeMessageVersion(buf, templates, &v9, &v10)
	if len(b) > 2 && binary.BigEndian.Uint16(b) == 9 {
		return &v9, err
	}
	return &v10, err
}

func (t *totals) add(messages []producer.ProducerMessage) {
	for _, m := range messages {
		f, ok := m.(*protoproducer.ProtoProducerMessage)
		if !ok {
			continue
		}
		rate := max(f.SamplingRate, 1)
		t.Flows++
		t.Packets += f.Packets * rate
		t.Octets += f.Bytes * rate
		t.StartMS += f.TimeFlowStartNs/1e6 - epochMS
		t.EndMS += f.TimeFlowEndNs/1e6 - epochMS
	}
}
