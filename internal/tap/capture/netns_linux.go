package capture

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// UnknownInterface says that there is no interface of that name, and which there are.
type UnknownInterface struct {
	Name string
	Have []string
}

func (e *UnknownInterface) Error() string {
	return fmt.Sprintf("interface %q: there is none of that name; there are: %s", e.Name, strings.Join(e.Have, ", "))
}

// unknownInterface lists the interfaces of the present thread's namespace.
func unknownInterface(name string) error {
	e := &UnknownInterface{Name: name}
	all, _ := net.Interfaces()
	for _, i := range all {
		e.Have = append(e.Have, i.Name)
	}
	return e
}

// netns is a network namespace; nil is the one of the process.
type netns struct{ file *os.File }

func openNetns(path string) (*netns, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return &netns{file: f}, nil
}

func (n *netns) close() {
	if n != nil {
		n.file.Close()
	}
}

// do runs f in the namespace: sockets that f opens stay in it.
func (n *netns) do(f func() error) error {
	if n == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("network namespace %s: %w", n.file.Name(), err)
			return
		}
		done <- f()
	}()
	return <-done
}

// InNetNS runs f in the network namespace of a file: sockets that f opens stay in it. "" is the namespace of the process.
func InNetNS(path string, f func() error) error {
	n, err := openNetns(path)
	if err != nil {
		return err
	}
	defer n.close()
	return n.do(f)
}
