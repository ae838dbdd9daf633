// Package chtest starts ClickHouse servers for tests: the one inside of libchdb, which `make deps` installs, with a folder of their own on
// loopback ports.
package chtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"crosstap/internal/testkit"
)

// host is the program that a server runs in: libchdb's own command line, which can listen.
const host = `#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
  void *lib = dlopen(argv[1], RTLD_NOW);
  if (!lib) { fprintf(stderr, "%s\n", dlerror()); return 2; }
  void *(*run)(int, char **) = (void *(*)(int, char **))dlsym(lib, "chdb_query_cmdline");
  if (!run) { fprintf(stderr, "%s\n", dlerror()); return 2; }
  argv[1] = "clickhouse";
  void *r = run(argc - 1, argv + 1);
  const char *(*error)(void *) = (const char *(*)(void *))dlsym(lib, "chdb_result_error");
  const char *e = r && error ? error(r) : 0;
  if (e) fprintf(stderr, "%s\n", e);
  return e != 0;
}
`

// library is where libchdb is, "" when it is not installed.
func library() string {
	if path := os.Getenv("CROSSTAP_LIBCHDB"); path != "" {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	path := filepath.Join(cache, "crosstap", "chdb", "node_modules", "@chdb", "lib-linux-x64-gnu", "libchdb.so")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// Server is a running server.
type Server struct {
	Addr string // of the native protocol
	Dir  string

	lib, program string
	config       string
	cmd          *exec.Cmd
	release      func()
	out          bytes.Buffer
}

// build makes a server in a folder, which is not started yet. config is its configuration in XML, "" for none.
func build(dir, config string) (*Server, error) {
	s := &Server{lib: library(), Dir: dir, config: config}
	switch {
	case runtime.GOOS != "linux" || runtime.GOARCH != "amd64":
		return nil, errors.New("libchdb is tried on Linux on amd64 only")
	case s.lib == "":
		return nil, errors.New("libchdb is not installed (make deps, or CROSSTAP_LIBCHDB=…/libchdb.so)")
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s.Addr, s.program = fmt.Sprintf("127.0.0.1:%d", port), filepath.Join(dir, "chhost")
	cc := exec.Command("gcc", "-x", "c", "-o", s.program, "-", "-ldl")
	cc.Stdin = bytes.NewBufferString(host)
	if out, err := cc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return s, nil
}

// Launch starts a server in a folder, for programs that are no tests. Kill ends it.
func Launch(dir, config string) (*Server, error) {
	s, err := build(dir, config)
	if err == nil {
		err = s.start()
	}
	if err != nil {
		return nil, fmt.Errorf("chtest: %w", err)
	}
	return s, nil
}

// New gives a server that is not started yet. config is its configuration in XML, "" for none; %d is no verb there.
func New(t testing.TB, config string) *Server {
	t.Helper()
	if library() == "" || runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		testkit.Missing(t, "libchdb is not installed (make deps, or CROSSTAP_LIBCHDB=…/libchdb.so), or not for this machine")
	}
	testkit.Tool(t, "gcc")
	s, err := build(t.TempDir(), config)
	if err != nil {
		t.Fatalf("chtest: %v", err)
	}
	return s
}

// Start starts a server; the test's end stops it.
func Start(t testing.TB) *Server {
	t.Helper()
	s := New(t, "")
	s.Start(t)
	return s
}

// StartShards starts servers that are the shards of a cluster called "main". libchdb has no Keeper, so the tables must be made on each.
func StartShards(t testing.TB, n int) []*Server {
	t.Helper()
	var all []*Server
	shards := ""
	for range n {
		s := New(t, "")
		_, port, _ := net.SplitHostPort(s.Addr)
		shards += "<shard><replica><host>127.0.0.1</host><port>" + port + "</port></replica></shard>"
		all = append(all, s)
	}
	for _, s := range all {
		s.config = "<clickhouse><remote_servers><main>" + shards + "</main></remote_servers></clickhouse>"
		s.Start(t)
	}
	return all
}

// freePort finds a port below those that the system gives out by itself, so that nobody takes it before the server does.
func freePort() (int, error) {
	for range 100 {
		port := 18000 + rand.IntN(14000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("there is no free port")
}

const startWait = 2 * time.Minute

// Start starts the process and waits until it answers; the test's end stops it.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("chtest: %v", err)
	}
	s.release = testkit.Guard(t, s.cmd.Process.Pid)
	t.Cleanup(s.Kill)
}

func (s *Server) start() error {
	_, port, _ := net.SplitHostPort(s.Addr)
	args := []string{s.lib}
	if s.config != "" {
		path := filepath.Join(s.Dir, "config.xml")
		if err := os.WriteFile(path, []byte(s.config), 0o600); err != nil {
			return err
		}
		args = append(args, "--config-file", path)
	}
	args = append(args, "--path", filepath.Join(s.Dir, "data"), "--tcp_port", port, "--listen_host", "127.0.0.1", "--query",
		"SYSTEM START LISTEN TCP; SELECT sleepEachRow(3) FROM numbers("+strconv.Itoa(1<<20)+") SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0 FORMAT Null")
	s.cmd = exec.Command(s.program, args...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.Dir, &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(startWait); ; time.Sleep(50 * time.Millisecond) {
		c, err := s.client()
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			s.Kill()
			return fmt.Errorf("the server does not answer: %w\n%s", err, s.out.String())
		}
	}
}

// PID is the number of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

func (s *Server) client() (*ch.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := ch.Dial(ctx, ch.Options{Address: s.Addr, DialTimeout: 5 * time.Second, ReadTimeout: time.Minute})
	if err != nil {
		return nil, err
	}
	return c, c.Ping(ctx)
}

// Kill ends the process at once, as kill -9 does.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	if s.release != nil {
		s.release()
	}
	s.cmd = nil
}

// Exec runs a statement, whatever it answers.
func (s *Server) Exec(t testing.TB, body string) {
	t.Helper()
	c, err := s.client()
	if err != nil {
		t.Fatalf("chtest: %v", err)
	}
	defer c.Close()
	var answer proto.Results
	nothing := func(context.Context, proto.Block) error { return nil }
	if err := c.Do(t.Context(), ch.Query{Body: body, Result: answer.Auto(), OnResult: nothing}); err != nil {
		t.Fatalf("chtest: %s: %v", body, err)
	}
}
