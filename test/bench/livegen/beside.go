//go:build linux

package main

import (
	"fmt"
	"math"
	"net"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// beside is what a second way cost, and by how much the first one is dearer: the median of the differences of slices that follow each other, and
// the interval that a sign test gives it at 95 %.
type beside struct {
	Sent   uint64  `json:"sent"`
	NS     float64 `json:"ns_per_packet"`
	More   float64 `json:"more_ns"`
	Low    float64 `json:"low_ns"`
	High   float64 `json:"high_ns"`
	Slices int     `json:"slices"`
}

// alternate sends a slice to each of two ways in turn; which one comes first changes from pair to pair.
func (o *options) alternate(one, two *way) (result, error) {
	var more []float64
	slice := func(w *way) (float64, error) {
		sent, cpu := w.sent, w.cpu
		err := o.send(w, o.slice)
		return float64(w.cpu-cpu) / float64(max(w.sent-sent, 1)), err
	}
	start := time.Now()
	for pair := 0; time.Since(start) < o.dur; pair++ {
		first, second, sign := one, two, 1.0
		if pair%2 == 1 {
			first, second, sign = two, one, -1
		}
		a, err := slice(first)
		if err != nil {
			return result{}, err
		}
		b, err := slice(second)
		if err != nil {
			return result{}, err
		}
		if pair > 1 { // what comes first fills caches
			more = append(more, sign*(a-b))
		}
	}
	r := one.result(time.Since(start))
	r.Beside = &beside{Sent: two.sent, NS: two.result(1).NS, Slices: len(more)}
	if n := len(more); n > 0 {
		slices.Sort(more)
		low := max(int((float64(n)-1.96*math.Sqrt(float64(n)))/2), 0)
		r.Beside.More, r.Beside.Low, r.Beside.High = (more[(n-1)/2]+more[n/2])/2, more[low], more[n-1-low]
	}
	return r, nil
}

// What the program of hook returns: the packet goes on (TCX_NEXT), or ends there (TCX_DROP).
const goesOn, ends = -1, 2

// hook has a program at an interface, both ways, until the process is ended.
func hook(name string, verdict int32) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}})
	if err != nil {
		return err
	}
	defer p.Close()
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: p, Attach: at})
		if err != nil {
			return err
		}
		defer l.Close()
	}
	fmt.Fprintln(os.Stderr, "listening on", name)
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM, unix.SIGINT)
	<-end
	return nil
}
