package netnetflow

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"crosstap/internal/flow"
	"crosstap/internal/netns"
)

// link is a network interface.
type link struct {
	index, master int
	kind          string // "bridge" for bridges
	portNo        uint32 // in its bridge
}

// links returns the interfaces of a network namespace by name, as the kernel lists them (rtnetlink(7), RTM_GETLINK).
func links(space string) (all map[string]link, err error) {
	err = netns.Do(space, func() error {
		b, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(b)
		if err != nil {
			return err
		}
		all = map[string]link{}
		for i := range messages {
			if messages[i].Header.Type == unix.RTM_NEWLINK {
				name, l := parseLink(messages[i].Data)
				all[name] = l
			}
		}
		return nil
	})
	return all, err
}

// parseLink reads one RTM_NEWLINK message.
func parseLink(b []byte) (name string, l link) {
	if len(b) < unix.SizeofIfInfomsg {
		return "", l
	}
	ne := binary.NativeEndian
	l.index = int(int32(ne.Uint32(b[4:])))
	attributes(b[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) {
		switch {
		case kind == unix.IFLA_IFNAME:
			name = unix.ByteSliceToString(v)
		case kind == unix.IFLA_MASTER && len(v) == 4:
			l.master = int(ne.Uint32(v))
		case kind == unix.IFLA_LINKINFO:
			l.info(v)
		}
	})
	return name, l
}

// info reads the nested attributes of IFLA_LINKINFO.
func (l *link) info(b []byte) {
	slave := ""
	attributes(b, func(kind uint16, v []byte) {
		switch {
		case kind == unix.IFLA_INFO_KIND:
			l.kind = unix.ByteSliceToString(v)
		case kind == unix.IFLA_INFO_SLAVE_KIND:
			slave = unix.ByteSliceToString(v)
		case kind == unix.IFLA_INFO_SLAVE_DATA && slave == "bridge":
			attributes(v, func(kind uint16, v []byte) {
				if kind == unix.IFLA_BRPORT_NO && len(v) == 2 {
					l.portNo = uint32(binary.NativeEndian.Uint16(v))
				}
			})
		}
	})
}

// neighbours returns the addresses that bridges have learned, by the index of the port's interface (RTM_GETNEIGH of AF_BRIDGE).
func neighbours(space string) (all map[int][]flow.MAC, err error) {
	err = netns.Do(space, func() error {
		messages, err := dumpNeighbours()
		if err != nil {
			return err
		}
		all = map[int][]flow.MAC{}
		for _, m := range messages {
			if m.Header.Type != unix.RTM_NEWNEIGH || len(m.Data) < ndmsgLen {
				continue
			}
			index := int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
			attributes(m.Data[ndmsgLen:], func(kind uint16, v []byte) {
				if kind == ndaLLAddr && len(v) == 6 {
					all[index] = append(all[index], flow.MACFrom(v))
				}
			})
		}
		return nil
	})
	return all, err
}

// The message of RTM_GETNEIGH: struct ndmsg has family 1, padding 3, ifindex 4, state 2, flags 1, type 1.
const (
	ndmsgLen  = 12
	ndaLLAddr = 2
)

// dumpNeighbours asks the kernel for the forwarding tables of all bridges.
func dumpNeighbours() (all []syscall.NetlinkMessage, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	req := make([]byte, unix.SizeofNlMsghdr+ndmsgLen)
	ne := binary.NativeEndian
	ne.PutUint32(req, uint32(len(req)))
	ne.PutUint16(req[4:], unix.RTM_GETNEIGH)
	ne.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req[unix.SizeofNlMsghdr] = unix.AF_BRIDGE
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	for {
		b := make([]byte, 64<<10)
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return all, nil
			case unix.NLMSG_ERROR:
				return nil, fmt.Errorf("netlink: the kernel refuses the dump")
			}
			all = append(all, m)
		}
	}
}

// attributes calls f for each netlink attribute in b: length (16 bits), type (16), value, padding to 4 bytes.
func attributes(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}
