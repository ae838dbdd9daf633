//go:build linux

package linux

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/libvirt"
	"crosstap/internal/netns"
)

// hypervisors are the names of programs that run machines, as far as no libvirt tells of them: QEMU under its many names (kvm is
// Proxmox's and Debian's), cloud-hypervisor, firecracker.
var hypervisors = []string{"qemu", "kvm", "cloud-hypervisor", "firecracker"}

// maxCommandLine bounds what is read of a process's arguments.
const maxCommandLine = 256 << 10

// scan is the last look at the processes.
type scan struct {
	mu      sync.Mutex
	devices []string // that it was for
	guests  []libvirt.Guest
	at      time.Time
}

// scanFor is how long a look at the processes holds for the same devices.
const scanFor = 10 * time.Second

// processes tells the machines of tap devices that nobody else knows.
func (p *Platform) processes(devices []string) []libvirt.Guest {
	if len(devices) == 0 {
		return nil
	}
	s := &p.scanned
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.devices, devices) || time.Since(s.at) > scanFor {
		s.devices, s.guests, s.at = devices, processGuests(p.space), time.Now()
	}
	return s.guests
}

// processGuests finds machines by the processes that run them: a process of a hypervisor holds the tap devices of its machine open, and
// says in its arguments what the machine is called.
func processGuests(s *netns.Space) (out []libvirt.Guest) {
	var own unix.Stat_t
	if s.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &own) }) != nil {
		return nil
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		args := arguments(dir)
		if len(args) == 0 || !isHypervisor(args[0]) {
			continue
		}
		var ns unix.Stat_t
		if unix.Stat(dir+"/ns/net", &ns) != nil || ns.Ino != own.Ino {
			continue
		}
		if devices := tapDevices(dir); len(devices) > 0 {
			out = append(out, guestOf(args, devices))
		}
	}
	return out
}

func arguments(dir string) []string {
	b, err := os.ReadFile(dir + "/cmdline")
	if err != nil || len(b) == 0 || len(b) > maxCommandLine {
		return nil
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
}

func isHypervisor(program string) bool {
	name := filepath.Base(program)
	return slices.ContainsFunc(hypervisors, func(h string) bool { return name == h || h == "qemu" && strings.HasPrefix(name, "qemu-system-") })
}

// tapDevices lists the tap devices that a process has open: the kernel names them beside the descriptor.
func tapDevices(dir string) (out []string) {
	infos, _ := filepath.Glob(dir + "/fdinfo/*")
	for _, f := range infos {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			if name, ok := bytes.CutPrefix(line, []byte("iff:\t")); ok {
				if d := strings.TrimSpace(string(name)); !slices.Contains(out, d) { // one descriptor for each queue
					out = append(out, d)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// guestOf reads the arguments of a hypervisor, as far as they are known: those of QEMU, and --mac and tap= of cloud-hypervisor.
func guestOf(args, devices []string) libvirt.Guest {
	var g libvirt.Guest
	backends := map[string]string{} // QEMU's name of a backend → its device
	cards := map[string]string{}    // QEMU's name of a backend → MAC of the card on it
	macs := map[string]string{}     // device → MAC
	id := ""
	for i, a := range args {
		value := ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		o := options(value)
		switch a {
		case "-name":
			if g.Name = o["guest"]; g.Name == "" {
				first, _, _ := strings.Cut(strings.ReplaceAll(value, ",,", "\x00"), ",")
				g.Name = strings.ReplaceAll(first, "\x00", ",")
			}
		case "-uuid":
			g.UUID = strings.ToLower(value)
		case "-smbios":
			if o["type"] == "1" && o["uuid"] != "" {
				g.UUID = strings.ToLower(o["uuid"])
			}
		case "-id":
			id = value // Proxmox's number of the machine
		case "-netdev":
			backends[o["id"]] = o["ifname"]
		case "-device":
			if o["mac"] != "" {
				cards[o["netdev"]] = strings.ToLower(o["mac"])
			}
		case "--net":
			macs[o["tap"]] = strings.ToLower(o["mac"])
		}
	}
	for name, device := range backends {
		if device != "" {
			macs[device] = cards[name]
		}
	}
	for n, d := range devices {
		g.Adapters = append(g.Adapters, libvirt.Adapter{Name: "net" + string(rune('0'+min(n, 9))), Type: "tap", Device: d, MAC: macs[d]})
	}
	if g.Name == "" {
		g.Name = devices[0]
		if id != "" {
			g.Name = id
		}
	}
	if g.UUID == "" {
		g.UUID = "process:" + g.Name
	}
	return g
}

// options splits "key=value,key=value"; a doubled comma stands for one.
func options(s string) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq(strings.ReplaceAll(s, ",,", "\x00"), ",") {
		key, value, _ := strings.Cut(strings.ReplaceAll(part, "\x00", ","), "=")
		out[key] = value
	}
	return out
}
