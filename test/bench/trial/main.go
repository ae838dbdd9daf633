//go:build linux

// Command trial has a program of an object file, which others have compiled from C, at the TCX hooks of an interface until it is ended: those of the trial of which the
// bars of live_cost.sh come. What the program leaves in its ring buffer is read and thrown away.
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// options are the flags. Numbers are those of the program's configuration.
type options struct {
	object, program, iface, out string
	port, proto, sample         uint
}

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.object, "object", "", "object file")
	flag.StringVar(&o.program, "program", "", "name of the program")
	flag.StringVar(&o.iface, "i", "", "interface")
	flag.StringVar(&o.out, "out", "", "interface that clones are sent to")
	flag.UintVar(&o.port, "port", 0, "port that packets must have, 0 for all")
	flag.UintVar(&o.proto, "proto", 0, "IP protocol that packets must have, 0 for all")
	flag.UintVar(&o.sample, "sample", 0, "one packet in so many")
	flag.Parse()
	if err := o.run(); err != nil {
		log.Fatal("trial: ", err)
	}
}

func (o *options) run() error {
	iface, err := net.InterfaceByName(o.iface)
	if err != nil {
		return err
	}
	all, err := o.load()
	if err != nil {
		return err
	}
	defer all.Close()
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		l, err := link.AttachTCX(link.TCXOptions{Interface: iface.Index, Program: all.Programs[o.program], Attach: at})
		if err != nil {
			return err
		}
		defer l.Close()
	}
	fmt.Fprintln(os.Stderr, "listening on", o.iface)
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM, unix.SIGINT)
	<-end
	return nil
}

// load loads the program with its maps, and configures it.
func (o *options) load() (*ebpf.Collection, error) {
	spec, err := ebpf.LoadCollectionSpec(o.object)
	if err != nil {
		return nil, err
	}
	for name := range spec.Programs {
		if name != o.program {
			delete(spec.Programs, name)
		}
	}
	all, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, err
	}
	if all.Programs[o.program] == nil || all.Maps["cfgm"] == nil || all.Maps["rb"] == nil {
		return nil, errors.New(o.object + " is another program than that of the trial")
	}
	if err := o.configure(all.Maps["cfgm"]); err != nil {
		return nil, err
	}
	r, err := ringbuf.NewReader(all.Maps["rb"])
	if err != nil {
		return nil, err
	}
	r.SetDeadline(time.Now().Add(look))
	go empty(r)
	return all, nil
}

// Places in the program's configuration.
const outAt, portAt, protoAt, sampleAt = 0, 32, 34, 36

func (o *options) configure(m *ebpf.Map) error {
	b := make([]byte, m.ValueSize())
	ne := binary.NativeEndian
	ne.PutUint16(b[portAt:], uint16(o.port))
	ne.PutUint16(b[protoAt:], uint16(o.proto))
	ne.PutUint32(b[sampleAt:], uint32(o.sample))
	if o.out != "" {
		out, err := net.InterfaceByName(o.out)
		if err != nil {
			return err
		}
		ne.PutUint32(b[outAt:], uint32(out.Index))
	}
	return m.Put(uint32(0), b)
}

// look is the time between two looks at the ring buffer: programs do not wake its reader.
const look = 20 * time.Millisecond

// empty throws away what the program leaves, until the ring buffer is closed.
func empty(r *ringbuf.Reader) {
	var x ringbuf.Record
	for {
		err := r.ReadInto(&x)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			r.SetDeadline(time.Now().Add(look))
		} else if err != nil {
			return
		}
	}
}
