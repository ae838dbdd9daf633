package netnetflow

import (
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"

	"crosstap/internal/tap/export"
)

// DefaultPort is the collector's port when none is given.
const DefaultPort = 2055

// Historic takes the loader out of a command line of ESX Server 3.5, such as
//
//	vmkload_app -S -i vmktcp /usr/lib/vmware/bin/net-netflow -e vSwitch0,prod1 10.0.0.9
//
// and returns net-netflow's own arguments. The loader's -S stays; -i, the instance of the kernel's TCP/IP, has no meaning here. Other
// command lines are returned as they are.
func Historic(args []string) ([]string, error) {
	if len(args) == 0 || path.Base(args[0]) != "vmkload_app" {
		return args, nil
	}
	var own []string
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case path.Base(a) == "net-netflow":
			return append(own, args[i+1:]...), nil
		case a == "-S":
			own = append(own, a)
		case a == "-i":
			i++
		case strings.HasPrefix(a, "-i"):
		default:
			return nil, fmt.Errorf("net-netflow: vmkload_app: %q is not known before net-netflow: want -S, -i INSTANCE", a)
		}
	}
	return nil, fmt.Errorf("net-netflow: vmkload_app: no net-netflow behind it")
}

// Collector reads a collector: HOST or HOST:PORT for NetFlow v5, or a URL for another format.
func Collector(s string) (export.Target, error) {
	if strings.Contains(s, "://") {
		return export.ParseTarget(s)
	}
	t := export.Target{Format: export.NetFlow5, Host: s, Port: DefaultPort, Refresh: export.DefaultRefresh}
	if strings.Count(s, ":") == 1 || strings.HasPrefix(s, "[") && !strings.HasSuffix(s, "]") {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return t, fmt.Errorf("net-netflow: collector %q: want HOST or HOST:PORT", s)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return t, fmt.Errorf("net-netflow: collector %q: port %q: want 1 to 65535", s, port)
		}
		t.Host, t.Port = host, uint16(n)
	}
	t.Host = strings.Trim(t.Host, "[]")
	if t.Host == "" || strings.ContainsAny(t.Host, " /,") {
		return t, fmt.Errorf("net-netflow: collector %q: want HOST or HOST:PORT", s)
	}
	return t, nil
}

// Switches reads the list of -e: names with commas between them.
func Switches(list []string) (names []string) {
	for _, l := range list {
		for _, n := range strings.Split(l, ",") {
			names = append(names, strings.TrimSpace(n))
		}
	}
	return names
}
