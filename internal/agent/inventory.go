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
	"crosstap/internal/route"
)

// inventory is what a server is told of this host.
type inventory struct {
	Interfaces []agentapi.Interface
	Routing    *route.Table
}

// inventory reads the interfaces of this host and its routes.
func (a *Agent) inventory() (in inventory) {
	links, err := netlink.LinkList()
	if err != nil {
		in.Interfaces = plainInterfaces()
		return in
	}
	byIndex := make(map[int]netlink.Link, len(links))
	for _, l := range links {
		byIndex[l.Attrs().Index] = l
	}
	in.Interfaces = interfaces(links, byIndex)
	in.Routing = a.routes.Read(&netlink.Handle{}, byIndex)
	return in
}

func interfaces(links []netlink.Link, byIndex map[int]netlink.Link) []agentapi.Interface {
	out := []agentapi.Interface{}
	for _, l := range links {
		a := l.Attrs()
		i := agentapi.Interface{
			Name: a.Name, Index: a.Index, MAC: a.HardwareAddr.String(), MTU: a.MTU, Kind: l.Type(), Up: a.Flags&net.FlagUp != 0,
			Alias: a.Alias, Addresses: []string{},
		}
		if master := byIndex[a.MasterIndex]; a.MasterIndex != 0 && master != nil {
			i.Master = master.Attrs().Name
		}
		list, _ := netlink.AddrList(l, netlink.FAMILY_ALL)
		for _, x := range list {
			i.Addresses = append(i.Addresses, x.IPNet.String())
		}
		out = append(out, i)
	}
	return out
}

// plainInterfaces lists what can be known without netlink.
func plainInterfaces() []agentapi.Interface {
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
func (in *inventory) digest() string {
	b, _ := json.Marshal(in)
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
