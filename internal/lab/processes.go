package lab

import (
	"encoding/json"
	"fmt"
	"time"

	"crosstap/internal/lab/vm"
)

// Pace of the VMs' traffic: steady, and little enough that a small machine stays idle.
const (
	roundEvery = time.Second
	bulkEvery  = 4 * time.Second
	bulkBytes  = 3 << 20
)

// Names of files in the lab's directory.
const (
	InventoryFile = "inventory.yaml"
	StoreDir      = "store"
)

// VMEnv is the environment variable that carries a VM's vm.Config.
const VMEnv = "CROSSTAP_LAB_VM"

// VMProcess returns the process of a VM's programs. When it ends it writes its vm.Report to the
// file ReportFile(v.Name).
func (t *Topology) VMProcess(v *VM) (Process, error) {
	peer := func(role string) vm.Peer {
		p := t.VM(v.Tenant, role)
		if p == nil {
			return vm.Peer{}
		}
		if !t.IPv6 {
			return vm.Peer{Addr4: p.Addr4}
		}
		return vm.Peer{Addr4: p.Addr4, Addr6: p.Addr6}
	}
	b, err := json.Marshal(vm.Config{
		Name: v.Name, Role: v.Role, Tenant: v.Tenant, Web: peer("web"), DB: peer("db"),
		Every: roundEvery, Bulk: vm.Bulk{Every: bulkEvery, Bytes: bulkBytes},
	})
	if err != nil {
		return Process{}, fmt.Errorf("lab: %s: %w", v.Name, err)
	}
	return Process{
		Name: v.Name, Namespace: v.Name, Argv: []string{"", "lab", "vm"}, Notify: true, Restart: true, Out: ReportFile(v.Name),
		Env: []string{VMEnv + "=" + string(b), "GOMAXPROCS=1", "GOMEMLIMIT=16MiB"},
	}, nil
}

// ReportFile returns the name of the file with a VM's vm.Report, relative to the lab's directory.
func ReportFile(name string) string { return name + ".report.json" }

// TapProcess returns the process of a tap. Flow records go to the collector in the lab and to the
// other destinations, written as the tap command takes them.
func (t *Topology) TapProcess(o Observer, timeout time.Duration, also ...string) Process {
	argv := []string{"", "tap", "-i", o.Interface, "--name", o.Name, "--role", o.Role, "--ring", "8MiB", "--idle", timeout.String(), "--active", timeout.String(),
		"--to", fmt.Sprintf("ipfix://%s?profile=%s&domain=%d", t.Flows(), o.Profile, o.Domain)}
	for _, to := range also {
		argv = append(argv, "--to", to)
	}
	return Process{Name: TapName(o), Namespace: o.Namespace, Argv: argv, Notify: true, Restart: true, Env: []string{"GOMEMLIMIT=40MiB"}}
}

// countersEvery is how often a host tells what its ports have counted: first before the VMs speak, so that the count and the flows begin together.
const countersEvery = 250 * time.Millisecond

// CountersProcess returns the process of a host's sFlow agent: it tells what the kernel counts at the VMs' ports. That is what a hypervisor's own
// agent does, and what coverage compares the flows with. No frame passes its filter: it sends no samples, which would be one more observer.
func (t *Topology) CountersProcess(h *Host) Process {
	argv := []string{"", "tap", "--name", h.Name + " counters", "-f", "less 1", "--ring", "1MiB",
		"--to", fmt.Sprintf("sflow://%s?agent=%s&counters=%s", t.Flows(), h.VTEP, countersEvery)}
	for _, v := range t.VMs {
		if v.Host == h.Name {
			argv = append(argv, "-i", v.Port)
		}
	}
	return Process{Name: "counters-" + h.Name, Namespace: h.Name, Argv: argv, Notify: true, Restart: true, Env: []string{"GOMEMLIMIT=24MiB"}}
}

// TapName returns the name of an observer's process.
func TapName(o Observer) string { return fmt.Sprintf("tap-%d", o.Domain) }

// ServeProcess returns the process of the collector and console, with the lab's listener for HTTP. http is the
// listener's address, dir the lab's directory.
func (t *Topology) ServeProcess(dir, http string) Process {
	return Process{
		Name: "serve", Namespace: CollectorNS, Notify: true, Listener: true, Restart: true,
		Argv: []string{"", "serve", "--data", dir + "/" + StoreDir, "--http", http, "--flows", t.Flows(),
			"--inventory", dir + "/" + InventoryFile, "--query-memory", "128MiB", "--flush", "2s"},
		Env: []string{"GOMEMLIMIT=160MiB"},
	}
}

// Flows returns the address and port the collector receives flow records on.
func (t *Topology) Flows() string { return fmt.Sprintf("%s:4739", t.Collector) }

// TruthProcess returns a tcpdump that writes all unicast IP traffic of a VM to the file TruthFile(v.Name), at
// the place where streams are cut into wire segments: what the VM sends without offloads, what it
// receives with them.
func (t *Topology) TruthProcess(v *VM) Process {
	direction, filter := "out", "(ip or ip6) and ether src "+v.MAC
	if t.Offloads {
		direction, filter = "in", "(ip or ip6) and ether dst "+v.MAC
	}
	return Process{
		Name: "truth-" + v.Name, Namespace: v.Name, Ready: "listening on",
		Argv: []string{"tcpdump", "-i", "eth0", "-n", "-p", "-Q", direction, "-s", "128", "-B", "16384", "--immediate-mode", "-U", "-Z", "root",
			"-w", TruthFile(v.Name), filter},
	}
}

// TruthFile returns the name of the capture of a VM's traffic, relative to the lab's directory.
func TruthFile(name string) string { return name + ".pcap" }
