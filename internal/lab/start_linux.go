package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Config is how to start a lab.
type Config struct {
	Exe      string   // this program; "" for the running one. Its InitArgs must call Init
	InitArgs []string // such as "lab", "init"
	Dir      string   // exists; gets logs, sockets and the files of processes
	Remove   bool     // the lab init removes Dir when the caller dies without having ended the lab
	Listener *os.File // for processes with Process.Listener; may be nil
	Verbose  bool     // the lab init logs to standard error
}

// initConfig is what the lab init needs to know; it travels in the environment.
type initConfig struct {
	Exe      string
	Dir      string
	Remove   bool
	Listener bool
	Verbose  bool
}

const initEnv = "CROSSTAP_LAB_INIT"

// Files of the lab init, after standard input, output and error.
const (
	fdControl  = 3
	fdListener = 4
)

// maxDir is how long a lab's directory may be: a socket in it, with a process's name, must fit the 108 bytes of
// struct sockaddr_un.
const maxDir = 80

// ErrDenied means that this user may not make namespaces. Its text says what to do.
var ErrDenied = errors.New("lab: network namespaces need root or unprivileged user namespaces")

// Start starts a lab init in new namespaces. Without the rights for that, in a new user namespace; where these are
// not allowed the error is ErrDenied.
func Start(cfg Config) (*Lab, error) {
	if len(cfg.Dir) > maxDir {
		return nil, fmt.Errorf("lab: directory %s: %d bytes, but its sockets need at most %d: choose one with a shorter path", cfg.Dir, len(cfg.Dir), maxDir)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("lab: control socket: %w", err)
	}
	near, far := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	defer far.Close()
	cmd, err := cfg.command(far)
	if err != nil {
		return nil, errors.Join(err, near.Close())
	}
	wait, err := startLocked(cmd)
	if err != nil {
		near.Close()
		return nil, denied(err, cmd.SysProcAttr.Cloneflags&unix.CLONE_NEWUSER != 0)
	}
	conn, err := net.FileConn(near)
	if err = errors.Join(err, near.Close()); err != nil {
		return nil, fmt.Errorf("lab: control socket: %w", err)
	}
	return newLab(conn, cmd.Process.Pid, wait), nil
}

// command describes the lab init's process: a session of its own, so that a terminal's signals
// reach the caller alone, and all the namespaces.
func (cfg *Config) command(control *os.File) (*exec.Cmd, error) {
	env, err := json.Marshal(initConfig{Exe: cfg.Exe, Dir: cfg.Dir, Remove: cfg.Remove, Listener: cfg.Listener != nil, Verbose: cfg.Verbose})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program(cfg.Exe), cfg.InitArgs...)
	cmd.Env = append(os.Environ(), initEnv+"="+string(env))
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{control}
	if cfg.Listener != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, cfg.Listener)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Pdeathsig:  syscall.SIGTERM, // not KILL: the lab init still removes the directory
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
	}
	if !privileged() {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		cmd.SysProcAttr.AmbientCaps = labCaps
	}
	return cmd, nil
}

// program returns the file to start a process of this binary from: the one that was asked for, else the running one
// under its own name, so that process lists show it, unless another build has taken its place.
func program(asked string) string {
	const running = "/proc/self/exe"
	if asked != "" {
		return asked
	}
	path, err := os.Executable()
	if err != nil {
		return running
	}
	there, err1 := os.Stat(path)
	here, err2 := os.Stat(running)
	if err1 != nil || err2 != nil || !os.SameFile(there, here) {
		return running
	}
	return path
}

// startLocked starts cmd from a thread that lives until cmd ends: the parent-death signal is sent
// when the starting thread ends. The returned function waits for the end.
func startLocked(cmd *exec.Cmd) (wait func() error, err error) {
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		ended <- cmd.Wait()
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return func() error { return <-ended }, nil
}

// labCaps are the rights of all processes in a lab with a user namespace of its own. The user stays who it is:
// as "root" there, tcpdump would try to become another user, and there is none.
var labCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE, unix.CAP_KILL}

// privileged reports whether this process may make namespaces and configure them.
func privileged() bool {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return os.Geteuid() == 0
	}
	_, rest, _ := strings.Cut(string(b), "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	caps, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW
	return err == nil && caps&need == need
}

// denied explains a failed start.
func denied(err error, user bool) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("lab: start: %w", err)
	}
	if !user {
		return fmt.Errorf("%w: root, but the kernel refuses (%w): in a container it needs CAP_SYS_ADMIN and a seccomp profile that allows clone", ErrDenied, err)
	}
	return fmt.Errorf("%w (%w)%s", ErrDenied, err, advice())
}

// advice looks for the settings that forbid user namespaces and names the way out.
func advice() string {
	var b strings.Builder
	b.WriteString("; either run it with sudo, or allow them:")
	found := false
	for _, s := range []struct{ path, bad, name, good string }{
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces", "15000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone", "1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns", "0"},
	} {
		if v, err := os.ReadFile(s.path); err == nil && strings.TrimSpace(string(v)) == s.bad {
			fmt.Fprintf(&b, " sudo sysctl -w %s=%s", s.name, s.good)
			found = true
		}
	}
	if !found {
		b.WriteString(" sysctl user.max_user_namespaces must be above 0, kernel.unprivileged_userns_clone 1, " +
			"kernel.apparmor_restrict_unprivileged_userns 0, and a container's seccomp profile must allow clone(CLONE_NEWUSER)")
	}
	return b.String()
}
