// Command vcsim runs the simulated vCenter of the vSphere platform's tests, to try taps on it. It tells how to reach it, and then takes
// commands, one on a line; "help" lists them. It ends with its input, or with "quit".
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform/vsphere/vsim"
)

func main() {
	c := vsim.Config{Password: os.Getenv("VCSIM_PASSWORD")}
	flag.IntVar(&c.Hosts, "hosts", 2, "ESXi hosts in one cluster")
	flag.IntVar(&c.VMs, "vms", 4, "machines on a distributed port group")
	flag.BoolVar(&c.ESX, "esx", false, "one ESXi host without a vCenter")
	flag.StringVar(&c.Listen, "listen", "127.0.0.1:0", "address")
	flag.Parse()
	if err := run(c, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "vcsim:", err)
		os.Exit(1)
	}
}

func run(c vsim.Config, in io.Reader, out io.Writer) error {
	s, err := vsim.Start(c)
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Fprintf(out, "export CROSSTAP_VSPHERE_USER=%s\nexport CROSSTAP_VSPHERE_PASSWORD=%s\naddress='%s?thumbprint=%s'\n", s.User, s.Password, s.URL, s.Thumbprint)
	ctx := context.Background()
	client, err := govmomi.NewClient(ctx, s.Login(), true) // on this machine
	if err != nil {
		return err
	}
	finder := find.NewFinder(client.Client)
	dc, err := finder.DefaultDatacenter(ctx)
	if err != nil {
		return err
	}
	v := &console{s: s, find: finder.SetDatacenter(dc), out: out}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "quit" {
			return nil
		}
		if err := v.do(ctx, words); err != nil {
			fmt.Fprintln(out, "error:", err)
		} else {
			fmt.Fprintln(out, "ok")
		}
	}
	return lines.Err()
}

// console does what the lines say.
type console struct {
	s    *vsim.Server
	find *find.Finder
	out  io.Writer
}

const help = `migrate VM HOST        vMotion
addnic VM NETWORK      one more adapter
send VM VM [N]         N UDP packets from the first to the second
received VM [NIC]      how many frames an adapter got since the last time
flows                  export the flows of the distributed switches
drop                   end all sessions of the API
conflict N             let the next N reconfigurations find another version`

func (v *console) do(ctx context.Context, words []string) error {
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch words[0] {
	case "help":
		fmt.Fprintln(v.out, help)
		return nil
	case "migrate":
		return v.migrate(ctx, arg(1), arg(2))
	case "addnic":
		return v.addNIC(ctx, arg(1), arg(2))
	case "send":
		n, err := strconv.Atoi(arg(3))
		if err != nil {
			n = 1
		}
		return v.send(ctx, arg(1), arg(2), n)
	case "received":
		nic, _ := strconv.Atoi(arg(2)) // 0 when it is not said
		fmt.Fprintln(v.out, len(v.s.Received(arg(1), nic)))
		return nil
	case "flows":
		n, err := v.s.ExportFlows()
		fmt.Fprintln(v.out, n)
		return err
	case "drop":
		v.s.DropSessions()
		return nil
	case "conflict":
		n, err := strconv.Atoi(arg(1))
		v.s.Conflict(n)
		return err
	}
	return errors.New("no such command; help lists them")
}

func (v *console) migrate(ctx context.Context, name, to string) error {
	vm, err := v.find.VirtualMachine(ctx, name)
	if err != nil {
		return err
	}
	host, err := v.find.HostSystem(ctx, to)
	if err != nil {
		return err
	}
	ref := host.Reference()
	task, err := vm.Relocate(ctx, types.VirtualMachineRelocateSpec{Host: &ref}, types.VirtualMachineMovePriorityDefaultPriority)
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

func (v *console) addNIC(ctx context.Context, name, network string) error {
	vm, err := v.find.VirtualMachine(ctx, name)
	if err != nil {
		return err
	}
	net, err := v.find.Network(ctx, network)
	if err != nil {
		return err
	}
	backing, err := net.EthernetCardBackingInfo(ctx)
	if err != nil {
		return err
	}
	card, err := object.EthernetCardTypes().CreateEthernetCard("vmxnet3", backing)
	if err != nil {
		return err
	}
	return vm.AddDevice(ctx, card)
}

// send makes packets 10.x.y.z:4000 > :5000, with addresses that are made of the adapters' MACs.
func (v *console) send(ctx context.Context, from, to string, n int) error {
	src, err := v.mac(ctx, from)
	if err != nil {
		return err
	}
	dst, err := v.mac(ctx, to)
	if err != nil {
		return err
	}
	for range n {
		frame := append(append([]byte{}, dst...), src...)
		ip := make([]byte, 20+8+18)
		ip[0], ip[8], ip[9] = 0x45, 64, 17
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		copy(ip[12:], []byte{10, src[3], src[4], src[5]})
		copy(ip[16:], []byte{10, dst[3], dst[4], dst[5]})
		binary.BigEndian.PutUint16(ip[10:], checksum(ip[:20]))
		binary.BigEndian.PutUint16(ip[20:], 4000)
		binary.BigEndian.PutUint16(ip[22:], 5000)
		binary.BigEndian.PutUint16(ip[24:], uint16(len(ip)-20))
		if err := v.s.Send(from, 0, append(append(frame, 8, 0), ip...)); err != nil {
			return err
		}
	}
	return nil
}

// checksum is that of an IPv4 header (RFC 1071).
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return ^uint16(sum + sum>>16)
}

func (v *console) mac(ctx context.Context, name string) (net.HardwareAddr, error) {
	vm, err := v.find.VirtualMachine(ctx, name)
	if err != nil {
		return nil, err
	}
	devices, err := vm.Device(ctx)
	if err != nil {
		return nil, err
	}
	return net.ParseMAC(devices.PrimaryMacAddress())
}
