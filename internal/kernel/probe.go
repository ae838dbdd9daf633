package kernel

import (
	"net/netip"

	"github.com/cilium/ebpf/asm"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Try attaches a program that does nothing to an interface of the present thread's network namespace, both ways, and takes it away again. The
// error says why programs of crosstap cannot be attached in this way.
func Try(way Way, index int) error {
	p, err := load("xt_probe", asm.Instructions{asm.Mov.Imm(asm.R0, actNext), asm.Return()})
	if err != nil {
		return err
	}
	defer p.Close()
	for _, dir := range directions {
		a, err := attach(way, index, dir, p)
		if err != nil {
			return err
		}
		if err := a.Close(); err != nil {
			return err
		}
	}
	return nil
}

// TryFlows makes a small flow table and a small ring, and has the kernel check the program that fills them.
func TryFlows() error {
	f, err := NewFlows(FlowsConfig{Config: Config{Interfaces: []string{"none"}}, Idle: 1e9, Active: 1e9, MaxFlows: 16, RingBytes: minRing})
	if err != nil {
		return err
	}
	defer f.Close()
	if f.ring, err = newRing(minRing, flowsKeep); err != nil {
		return err
	}
	f.feed.ring = f.ring
	if f.tables, err = newTables(16); err != nil {
		return err
	}
	return f.check()
}

// check has the kernel check the program of an Ethernet interface.
func (l *line) check() error {
	k := &hook{link: frame.LinkEthernet}
	defer k.close()
	return l.loadHook(k)
}

// TryMirror makes a device for copies in the present thread's network namespace, has the kernel check the programs that wrap them, and takes all away again.
func TryMirror() error {
	o := Outer{
		Source: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Tool: netip.AddrFrom4([4]byte{192, 0, 2, 2}), Protocol: wire.ProtoUDP, Port: 4789,
		Head: []byte{8, 0, 0, 0, 0, 0, 1, 0}, Seq: -1, ERSPAN: -1, Fits: 1450,
	}
	if err := o.validate(); err != nil {
		return err
	}
	way, err := newWayOut("", &o)
	if err != nil {
		return err
	}
	defer way.close()
	var d *device
	for _, by := range []Way{TCX, Clsact} {
		if d, err = newDevice(by, &o, way, 0, nil, nil); err == nil {
			d.close()
			return nil
		}
	}
	return err
}
