package agent

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/agentapi"
)

// inventory lists the interfaces of this host.
func inventory() []agentapi.Interface {
	out := []agentapi.Interface{}
	links, err := netlink.LinkList()
	if err != nil {
		return plainInventory()
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		a := l.Attrs()
		i := agentapi.Interface{
			Name: a.Name, Index: a.Index, MAC: a.HardwareAddr.String(), MTU: a.MTU, Kind: l.Type(), Up: a.Flags&net.FlagUp != 0,
			Master: names[a.MasterIndex], Alias: a.Alias, Addresses: []string{},
		}
		if a.MasterIndex == 0 {
			i.Master = ""
		}
		list, _ := netlink.AddrList(l, netlink.FAMILY_ALL)
		for _, x := range list {
			i.Addresses = append(i.Addresses, x.IPNet.String())
		}
		out = append(out, i)
	}
	return out
}

// plainInventory lists what can be known without netlink.
func plainInventory() []agentapi.Interface {
	out := []agentapi.Interface{}
	list, _ := net.Interfaces()
	for _, l := range list {
		i := agentapi.Interface{Name: l.Name, Index: l.Index, MAC: l.HardwareAddr.String(), MTU: l.MTU, Up: l.Flags&net.FlagUp != 0, Addresses: []string{}}
		addrs, _ := l.Addrs()
		for _, a := range addrs {
			i.Addresses = append(i.Addresses, a.String())
		}
		out = append(out, i)
	}
	return out
}

// digest tells one inventory from another.
func digest(list []agentapi.Interface) string {
	b, _ := json.Marshal(list)
	return string(b)
}

// systemName names the kernel and its release.
func systemName() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
}

// usage is what this process has taken.
type usage struct {
	cpu      time.Duration
	resident int64
}

func readUsage() (u usage) {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		u.cpu = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	b, _ := os.ReadFile("/proc/self/statm")
	if f := bytes.Fields(b); len(f) > 1 {
		pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
		u.resident = pages * int64(os.Getpagesize())
	}
	return u
}
