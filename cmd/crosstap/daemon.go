package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// A daemon is this program again, in a session of its own, with this variable set. It tells on descriptor 3 that it runs.
const (
	daemonEnv = "CROSSTAP_DAEMON"
	daemonFD  = 3
)

func isDaemon() bool { return os.Getenv(daemonEnv) != "" }

// daemonReady tells the process that has started this daemon.
func daemonReady() {
	if !isDaemon() {
		return
	}
	f := os.NewFile(daemonFD, "ready")
	fmt.Fprintln(f, "ready")
	f.Close()
}

// startDaemon starts the same command line as a daemon whose messages go to a file. It returns when the daemon runs, or with what it
// said when it could not.
func startDaemon(cmd *cobra.Command, logPath string) error {
	if err := os.MkdirAll(filepath.Dir(logPath), 0o755); err != nil {
		return exit(exitDenied, err)
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o640)
	if err != nil {
		return exit(exitDenied, err)
	}
	defer log.Close()
	began, _ := log.Seek(0, io.SeekEnd)
	self, err := os.Executable()
	if err != nil {
		return exit(exitFinding, err)
	}
	ready, child, err := os.Pipe()
	if err != nil {
		return exit(exitFinding, err)
	}
	defer ready.Close()
	c := exec.Command(self, os.Args[1:]...)
	c.Env = append(os.Environ(), daemonEnv+"=1")
	c.Stdout, c.Stderr, c.ExtraFiles = log, log, []*os.File{child}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = c.Start()
	child.Close()
	if err != nil {
		return exit(exitFinding, err)
	}
	if line, _ := bufio.NewReader(ready).ReadString('\n'); line != "" {
		fmt.Fprintln(cmd.OutOrStdout(), c.Process.Pid)
		return c.Process.Release()
	}
	code := exitFinding
	var failed *exec.ExitError
	if errors.As(c.Wait(), &failed) {
		code = failed.ExitCode()
	}
	if _, err := log.Seek(began, io.SeekStart); err == nil {
		_, _ = io.Copy(cmd.ErrOrStderr(), log)
	}
	return exit(code, nil)
}
