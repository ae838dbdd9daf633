package segment

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"crosstap/internal/collect/store"
)

// processName is the name under which this program answers one question in SQL (sql_child.go). What a question takes beside its engine's limit, or breaks, is that of a process
// which the server outlives. It has no privilege that the server lacks, and no input but its question.
const processName = "crosstap: a question in SQL"

// askProcess starts a process for a question and gives its rows. The process ends with the context, and with this one: its input is a pipe that says so.
func (s *Store) askProcess(ctx context.Context, t sqlTask, to store.SQLRows) (truncated bool, err error) {
	task, err := json.Marshal(t)
	if err != nil {
		return false, fmt.Errorf("segment: sql: %w", err)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	said := &lastWords{}
	// The link leads to this program also after another one has taken its place on the disk.
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Dir, cmd.Env, cmd.Stderr = []string{processName}, "/", []string{"TMPDIR=" + t.Spill}, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for us, who end it
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return false, fmt.Errorf("segment: sql: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, fmt.Errorf("segment: sql: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("segment: sql: the process of the question: %w", err)
	}
	_, err = in.Write(task) // in stays open: its end tells the process that we have gone
	if err == nil {
		truncated, err = readAnswer(bufio.NewReaderSize(out, rowsAtOnce), to)
	}
	complete := err == nil
	end()
	ended := cmd.Wait()
	var cut *cutError
	if complete || err != nil && !errors.As(err, &cut) && !errors.Is(err, syscall.EPIPE) {
		return truncated, err
	}
	return false, s.whyEnded(t, ended, said.String())
}

// whyEnded says why a process ended without an answer.
func (s *Store) whyEnded(t sqlTask, ended error, said string) error {
	var exit *exec.ExitError
	if errors.As(ended, &exit) {
		status, _ := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() && status.Signal() == syscall.SIGKILL { // the kernel's choice when the machine has no memory left
			return &store.SQLError{Message: "the machine ran out of memory; narrow the time range or add conditions"}
		}
	}
	if lacksMemory(said) {
		return tooMuch(t.Most)
	}
	s.cfg.Log.Error("the process of a question in SQL failed", "dir", s.cfg.Dir, "end", ended, "said", said, "question", fmt.Sprintf("%.500s", t.Text))
	return &store.SQLError{Message: fmt.Sprintf("the question broke its query engine (%v); others are answered", ended)}
}

// lacksMemory reports whether a complaint of the engine, of its C++ library, of Go or of the allocator is that the kernel gives no more memory.
func lacksMemory(text string) bool {
	for _, words := range []string{"Out of Memory Error", "bad_alloc", "out of memory", "cannot allocate memory", "Cannot allocate memory", "failed to create new OS thread", "pthread_create failed",
		"Resource temporarily unavailable", "Allocation failure", "could not allocate", "failed to reserve", "mmap"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

func tooMuch(most int64) error {
	return &store.SQLError{Message: fmt.Sprintf("the question needs more than the %d MiB of memory that one may take; narrow the time range, add conditions, or ask without what holds all values, such as median, list or repeat", most>>20)}
}

// lastWords keeps the first 8 KiB that a process says: what follows are stacks.
type lastWords struct{ bytes.Buffer }

func (w *lastWords) Write(p []byte) (int, error) {
	w.Buffer.Write(p[:min(len(p), 8<<10-w.Len())])
	return len(p), nil
}
