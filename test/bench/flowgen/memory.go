package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"crosstap/internal/collect/store/segment"
)

// memoryOf asks a question twice in a process of its own, and gives the most memory that it took there beside what the process had with the store open: engine,
// heap and touched program text, MB. What a process of the question's own has counts too.
func memoryOf(dir string, days float64, memory int64, name string) (mb int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	out, err := exec.Command(self, "-data", dir, "-days", fmt.Sprint(days), "-memory", fmt.Sprint(memory>>20), "-alone", name).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return 0, fmt.Errorf("%s alone: %w: %s", name, err, exit.Stderr)
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// alone asks one question, and prints how much memory it took.
func alone(dir string, span, memory int64, name string) error {
	s, err := openToAsk(dir, memory)
	if err != nil {
		return err
	}
	defer s.Close()
	ask, err := named(s, dir, span, memory, name)
	if err != nil {
		return err
	}
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak is what is resident now
		return err
	}
	before, err := resident("VmHWM")
	if err != nil {
		return err
	}
	for range 2 {
		if err := ask(); err != nil {
			return err
		}
	}
	most, err := resident("VmHWM")
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u) // does not fail
	fmt.Println(most - before + int(u.Maxrss/1024))    // a question in SQL has a process of its own, which counts whole
	return err
}

// named finds a question or a scan.
func named(s *segment.Store, dir string, span, memory int64, name string) (func() error, error) {
	for _, q := range questions(s, time.Unix(0, end), time.Duration(span)) {
		if q.name == name {
			return q.ask, nil
		}
	}
	for _, q := range scanned {
		if q.name == name {
			return func() error { return scan(context.Background(), dir, memory, time.Duration(span), q.text) }, nil
		}
	}
	return nil, fmt.Errorf("there is no question %q", name)
}

// resident reads a size of this process, MB.
func resident(what string) (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(status, []byte(what+":"))
	text, _, ok := bytes.Cut(rest, []byte(" kB"))
	kb, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if !ok || err != nil {
		return 0, fmt.Errorf("/proc/self/status does not tell %s", what)
	}
	return kb / 1024, nil
}
