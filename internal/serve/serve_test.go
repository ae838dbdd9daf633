package serve

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/serve/api"
	"crosstap/internal/serve/settings"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv("SERVE_ACTIVATED") == "1" {
		activatedChild()
	}
	testkit.Main(m)
}

// testSettings are those of a server on free ports with a fresh store.
func testSettings(t *testing.T) settings.Settings {
	t.Helper()
	s := settings.Default()
	s.Data, s.HTTP, s.Flows, s.QueryMemory = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", []string{"127.0.0.1:0"}, 64<<20
	return s
}

// start runs a server on a socket of the test's and returns its URL, and a function that stops it and wants a clean end.
func start(t *testing.T, set settings.Settings) (url string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Settings: set, Listener: ln})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("the server does not stop")
		}
		http.DefaultClient.CloseIdleConnections()
	}
	return "http://" + ln.Addr().String(), stop
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestRun(t *testing.T) {
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	t.Setenv("NOTIFY_SOCKET", notify.LocalAddr().String())
	url, stop := start(t, testSettings(t))
	state := make([]byte, 64)
	if n, err := notify.Read(state); err != nil || string(state[:n]) != "READY=1" {
		t.Errorf("told %q %v", state[:n], err)
	}
	f := func(path string, status int, text string) {
		t.Helper()
		if code, body := fetch(t, url+path); code != status || !strings.Contains(body, text) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	f("/healthz", 200, "ok\n")
	f("/api/v1/pairs", 200, `"cause":"no_exporter"`)
	f("/api/v1/pairs?f=%28", 422, `"location":"query.f"`)
	f("/api/v1/series", 200, `"unit":"bit/s"`)
	f("/api/v1/sankey", 200, `"links":[`)
	f("/api/v1/overview", 200, `"pairs":0`)
	f("/metrics", 200, "crosstap_store_rows 0")
	f("/readyz", 404, "/healthz")
	var s api.Status
	_, body := fetch(t, url+"/api/v1/status")
	if err := json.Unmarshal([]byte(body), &s); err != nil || !s.Healthy || s.Process.PID != os.Getpid() || s.Process.ResidentBytes == 0 {
		t.Errorf("status %v: %s", err, body)
	}
	for _, st := range s.Stages {
		if err := st.Balance(); err != nil {
			t.Error(err)
		}
	}
	stream, err := http.Get(url + "/api/v1/events") // a live stream does not keep the server from stopping
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	stop()
	if n, err := notify.Read(state); err != nil || string(state[:n]) != "STOPPING=1" {
		t.Errorf("told %q %v", state[:n], err)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	set := testSettings(t)
	url, stop := start(t, set)
	defer stop()
	f := func(change func(*settings.Settings), want ...string) {
		t.Helper()
		other := testSettings(t)
		change(&other)
		s, err := New(Config{Settings: other})
		if err == nil {
			err = s.Run(t.Context())
		}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("want %q in %v", w, err)
			}
		}
	}
	until(t, url+"/healthz", "ok") // the store of the first server is open
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	f(func(o *settings.Settings) { o.Data = set.Data }, "another process writes this store (pid ", "choose another --data")
	f(func(o *settings.Settings) { o.HTTP = held.Addr().String() }, "in use by pid ", "choose another address with --http")
	f(func(o *settings.Settings) { o.HTTP = "localhost:1" }, "serve: http: address")
	f(func(o *settings.Settings) { o.Data = "/proc/none/such" }, "serve: data /proc/none/such: ")
}

// activatedChild runs in a process that was handed sockets: it says what it took and ends.
func activatedChild() {
	ln, err := Activated()
	switch {
	case err != nil:
		io.WriteString(os.Stdout, "error: "+err.Error())
	case ln == nil:
		io.WriteString(os.Stdout, "none")
	default:
		io.WriteString(os.Stdout, ln.Addr().String())
	}
	if os.Getenv("LISTEN_FDS") != "" {
		io.WriteString(os.Stdout, " LISTEN_FDS is still set")
	}
	os.Exit(0)
}

func TestActivated(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	f := func(want string, env ...string) {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		for _, ln := range []net.Listener{first, second} {
			file, err := ln.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, file)
		}
		cmd.Env = append(os.Environ(), append(env, "SERVE_ACTIVATED=1")...)
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "still set") {
			t.Errorf("%v: %q %v, want %q", env, out, err, want)
		}
	}
	f("none")
	f("none", "LISTEN_FDS=0")
	f("none", "LISTEN_FDS=many")
	f("none", "LISTEN_FDS=1", "LISTEN_PID=1")
	f(first.Addr().String(), "LISTEN_FDS=1")
	f(first.Addr().String(), "LISTEN_FDS=1", "LISTEN_FDNAMES=unknown")
	f(first.Addr().String(), "LISTEN_FDS=2", "LISTEN_FDNAMES=http:flows")
	f(second.Addr().String(), "LISTEN_FDS=2", "LISTEN_FDNAMES=flows:http")
	f("error: serve: 2 sockets were handed over, none is named http", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b")
	f("error: serve: 1 sockets were handed over", "LISTEN_FDS=1", "LISTEN_FDNAMES=a:http")
}
