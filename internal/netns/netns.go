// Package netns runs code in a network namespace: sockets that are opened there stay there.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Space is a network namespace that is held open; nil is the one of the process.
type Space struct{ file *os.File }

// Open opens the namespace of a file, such as /run/netns/NAME or /proc/PID/ns/net. "" is the one of the process.
func Open(path string) (*Space, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return &Space{file: f}, nil
}

// Close lets the namespace go.
func (s *Space) Close() {
	if s != nil {
		s.file.Close()
	}
}

// Do runs f on a thread of its own in the namespace, and returns f's error.
func (s *Space) Do(f func() error) error {
	if s == nil {
		return f()
	}
	return OnThread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace %s: %w", s.file.Name(), err)
		}
		return f()
	})
}

// OnThread runs f on a thread that ends with it, and with what f changed of the thread, such as its namespaces. It is never the main
// thread: the runtime does not end that one, and what /proc/self shows of the network is what the main thread sees.
func OnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			done <- OnThread(f) // on another one, since this one is taken
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked: the thread ends with the goroutine
	}()
	return <-done
}

// Do runs f in the namespace of a file; "" is the one of the process.
func Do(path string, f func() error) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Do(f)
}
