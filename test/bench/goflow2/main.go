// Command goflow2 measures goflow2 on IPFIX messages in memory: decoding alone, and decoding to its
// protobuf structs. It prints records and the CPU seconds (user and system) that they took.
package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/producer"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
)

func main() {
	structs := flag.Bool("structs", false, "decode to protobuf structs, not only to fields")
	rounds := flag.Int("rounds", 1, "how often the file is decoded")
	flag.Parse()
	if err := run(flag.Arg(0), *structs, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "goflow2:", err)
		os.Exit(1)
	}
}

func run(name string, structs bool, rounds int) error {
	msgs, err := split(name)
	if err != nil {
		return err
	}
	cfg, err := (&protoproducer.ProducerConfig{}).Compile()
	if err != nil {
		return err
	}
	p, err := protoproducer.CreateProtoProducer(cfg, protoproducer.CreateSamplingSystem)
	if err != nil {
		return err
	}
	n, start := 0, cpu()
	for range rounds {
		templates := netflow.CreateTemplateSystem()
		for _, m := range msgs {
			k, err := decode(m, templates, p, structs)
			if err != nil {
				return err
			}
			n += k
		}
	}
	fmt.Println(n, (cpu() - start).Seconds())
	return nil
}

func decode(m []byte, templates netflow.NetFlowTemplateSystem, p producer.ProducerInterface, structs bool) (int, error) {
	var v9 netflow.NFv9Packet
	var v10 netflow.IPFIXPacket
	if err := netflow.DecodeMessageVersion(bytes.NewBuffer(m), templates, &v9, &v10); err != nil {
		return 0, err
	}
	if structs {
		set, err := p.Produce(&v10, &producer.ProduceArgs{Src: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), 40000)})
		p.Commit(set)
		return len(set), err
	}
	n := 0
	for _, s := range v10.FlowSets {
		if d, ok := s.(netflow.DataFlowSet); ok {
			n += len(d.Records)
		}
	}
	return n, nil
}

func split(name string) (msgs [][]byte, err error) {
	b, err := os.ReadFile(name)
	for len(b) >= 16 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		msgs, b = append(msgs, b[:n]), b[n:]
	}
	return msgs, err
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
