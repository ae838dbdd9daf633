package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/lab/vm"
	"crosstap/internal/testkit"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the lab init and the VMs.
func TestMain(m *testing.M) {
	var err error
	switch strings.Join(os.Args[1:], " ") {
	case "lab init":
		err = Init()
	case "lab vm":
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
		err = RunVM(ctx, os.Stdout)
		stop()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// startLab starts a lab with its network and returns it with its directory.
func startLab(t *testing.T, topology Topology) (*Lab, string) {
	t.Helper()
	testkit.Root(t)
	dir := t.TempDir()
	l, err := Start(Config{InitArgs: []string{"lab", "init"}, Dir: dir, Verbose: testing.Verbose()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := l.Build(t.Context(), topology); err != nil {
		t.Fatal(err)
	}
	return l, dir
}

// startVMs starts all programs, servers before clients.
func startVMs(t *testing.T, l *Lab, topology *Topology) {
	t.Helper()
	for _, role := range []string{"db", "web", "client"} {
		for i := range topology.VMs {
			v := &topology.VMs[i]
			if v.Role != role {
				continue
			}
			p, err := topology.VMProcess(v)
			if err == nil {
				err = l.Run(t.Context(), p)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// stopVMs ends all programs, clients first, and returns their reports.
func stopVMs(t *testing.T, l *Lab, topology *Topology, dir string) []vm.Report {
	t.Helper()
	var reports []vm.Report
	for _, role := range []string{"client", "web", "db"} {
		for _, v := range topology.VMs {
			if v.Role != role {
				continue
			}
			exit, err := l.Stop(t.Context(), v.Name, int(unix.SIGTERM), 5*time.Second)
			if err != nil || !exit.Clean {
				t.Fatalf("%s: %+v, %v: %s", v.Name, exit, err, readFrom(logPath(dir, v.Name), 0))
			}
			b, err := os.ReadFile(filepath.Join(dir, ReportFile(v.Name)))
			if err != nil {
				t.Fatal(err)
			}
			var r vm.Report
			if err := json.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
			reports = append(reports, r)
		}
	}
	return reports
}

func TestPrograms(t *testing.T) {
	for _, offloads := range []bool{false, true} {
		t.Run(fmt.Sprintf("offloads=%t", offloads), func(t *testing.T) {
			topology := Default(offloads, true)
			l, dir := startLab(t, topology)
			startVMs(t, l, &topology)
			time.Sleep(7 * time.Second)
			for _, r := range stopVMs(t, l, &topology, dir) {
				t.Logf("%+v", r)
				if r.Failures > 0 || r.Served+r.Asked == 0 {
					t.Errorf("%s: %d served, %d asked, %d failures (%s)", r.VM, r.Served, r.Asked, r.Failures, r.Failure)
				}
			}
		})
	}
}
