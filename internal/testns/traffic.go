//go:build linux

package testns

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/testkit"
)

// Stream sends data to a host over TCP; the test fails unless all of it arrives.
func (s *Space) Stream(to *Space, addr string, data []byte) {
	s.tb.Helper()
	var l net.Listener
	s.must(to.Do(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	}))
	defer l.Close()
	received := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			received <- -1
			return
		}
		n, _ := io.Copy(io.Discard, c)
		c.Close()
		received <- n
	}()
	var c net.Conn
	s.must(s.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), time.Minute)
		return err
	}))
	_, err := c.Write(data)
	s.must(err)
	s.must(c.Close())
	if n := <-received; n != int64(len(data)) {
		s.tb.Fatalf("%s: %d of %d bytes arrived", addr, n, len(data))
	}
}

// Datagrams sends data in one system call, for the kernel to cut into datagrams of size bytes (UDP_SEGMENT, udp(7)).
func (s *Space) Datagrams(to *Space, addr string, data []byte, size int) {
	s.tb.Helper()
	var l net.PacketConn
	s.must(to.Do(func() (err error) {
		l, err = net.ListenPacket("udp", net.JoinHostPort(addr, "0"))
		return err
	}))
	defer l.Close()
	var c net.Conn
	s.must(s.Do(func() (err error) {
		c, err = net.Dial("udp", l.LocalAddr().String())
		return err
	}))
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	s.must(err)
	s.must(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
	}))
	if err != nil {
		testkit.Missing(s.tb, "no UDP segmentation offload: "+err.Error())
	}
	_, err = c.Write(data)
	s.must(err)
}

// Dump has tcpdump write what passes eth0, or the interface of an option -i, to a file, until the function it returns is called. It returns when
// tcpdump listens; args are more of tcpdump's options and its filter.
func (s *Space) Dump(tcpdump, path string, args ...string) (stop func()) {
	s.tb.Helper()
	c := exec.Command(tcpdump, append([]string{"-i", "eth0", "-n", "--immediate-mode", "-U", "-Z", "root", "-w", path}, args...)...)
	s.must(s.Do(func() error {
		stderr, err := c.StderrPipe()
		if err != nil {
			return err
		}
		if err := c.Start(); err != nil {
			return fmt.Errorf("tcpdump: %w", err)
		}
		_, err = stderr.Read(make([]byte, 1)) // "listening on …"
		return err
	}))
	Writes(path, c.Process.Pid)
	return func() {
		_ = c.Process.Signal(unix.SIGINT)
		_ = c.Wait()
	}
}

func (s *Space) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}
