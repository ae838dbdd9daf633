//go:build linux

package linux

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
	"crosstap/internal/libvirt"
)

// A process in the place of QEMU holds a tap device; TestMain makes it.
const qemuEnv = "LINUX_TEST_QEMU"

func TestMain(m *testing.M) {
	if device := os.Getenv(qemuEnv); device != "" {
		pretend(device)
		return
	}
	os.Exit(m.Run())
}

// pretend opens a tap device, says so and waits for the end of its input.
func pretend(device string) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		var request [40]byte // struct ifreq
		copy(request[:], device)
		*(*uint16)(unsafe.Pointer(&request[16])) = unix.IFF_TAP | unix.IFF_NO_PI
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
			err = errno
		}
	}
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		return
	}
	os.Stdout.WriteString("ready\n")
	_, _ = bufio.NewReader(os.Stdin).ReadString(0)
}

func TestProcessGuests(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	c := exec.Command(os.Args[0])
	c.Args = strings.Fields("/usr/bin/qemu-system-x86_64 -id 100 -name guest=web,debug-threads=on -smbios type=1,uuid=6695EB01-f6a4-8304-79aa-97f2502e1900 " +
		"-netdev type=tap,id=net0,ifname=tap100i0,script=no -device virtio-net-pci,mac=52:54:00:AA:00:01,netdev=net0,bus=pci.0")
	c.Env = append(os.Environ(), qemuEnv+"=tap100i0")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.hosts["h1"].Do(c.Start); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = c.Wait() }()
	said := make(chan string, 1)
	go func() { line, _ := bufio.NewReader(out).ReadString('\n'); said <- line }()
	select {
	case line := <-said:
		if line != "ready\n" {
			t.Fatalf("tap device: %q", line)
		}
	case <-time.After(time.Minute):
		t.Fatal("the process says nothing")
	}
	l.hosts["h1"].Sh("ip link set tap100i0 master br0 up")
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	port := now.Ports["tap100i0"]
	if port == nil || port.Kind != platform.PortVM || port.MAC.String() != "52:54:00:aa:00:01" || now.VMs[port.VM] == nil || now.VMs[port.VM].Name != "web" ||
		port.VM != "6695eb01-f6a4-8304-79aa-97f2502e1900" {
		t.Errorf("%+v", port)
	}
}

func TestGuestOf(t *testing.T) {
	f := func(args string, want libvirt.Guest) {
		t.Helper()
		if diff := cmp.Diff(want, guestOf(strings.Split(args, " "), []string{"tap0"})); diff != "" {
			t.Errorf("%s:\n%s", args, diff)
		}
	}
	tap := func(mac string) []libvirt.Adapter {
		return []libvirt.Adapter{{Name: "net0", Type: "tap", Device: "tap0", MAC: mac}}
	}
	f("/usr/bin/kvm -id 100 -name web,debug-threads=on", libvirt.Guest{Name: "web", UUID: "process:web", Adapters: tap("")})
	f("kvm -id 100", libvirt.Guest{Name: "100", UUID: "process:100", Adapters: tap("")})
	f("qemu-system-arm -uuid ABC -name a,,b", libvirt.Guest{Name: "a,b", UUID: "abc", Adapters: tap("")})
	f("cloud-hypervisor --net tap=tap0,mac=52:54:00:AA:00:02", libvirt.Guest{Name: "tap0", UUID: "process:tap0", Adapters: tap("52:54:00:aa:00:02")})
	f("qemu-system-x86_64 -name", libvirt.Guest{Name: "tap0", UUID: "process:tap0", Adapters: tap("")})
}
