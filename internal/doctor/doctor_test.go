package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// The test binary is its own probe process.
func TestMain(m *testing.M) {
	if os.Getenv("DOCTOR_PROBE") == "1" {
		if err := Probe(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func find(t *testing.T, list []Result, check string) Result {
	t.Helper()
	i := slices.IndexFunc(list, func(r Result) bool { return r.Check == check })
	if i < 0 {
		t.Fatalf("no check %q in %+v", check, list)
	}
	return list[i]
}

func TestExamine(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := netip.MustParseAddrPort(taken.LocalAddr().String())
	t.Setenv("DOCTOR_PROBE", "1")
	list := Examine(t.Context(), Options{
		For: []string{"serve"}, HTTP: netip.MustParseAddrPort("127.0.0.1:1"), Flows: []Address{{"udp", port}},
		Data: filepath.Join(t.TempDir(), "a", "b"), Inventory: filepath.Join(t.TempDir(), "absent.yaml"), ServerURL: "http://x",
		Server: func(context.Context) error { return errors.New("connection refused") }, Probe: []string{os.Args[0]},
	})
	for _, r := range list {
		if r.Area == "" || r.Check == "" || r.Found == "" || r.For == "" || r.Level == Fail && r.Action == "" {
			t.Errorf("a finding must say what, why and the way out: %+v", r)
		}
	}
	f := func(check string, want Level) {
		t.Helper()
		if r := find(t, list, check); r.Level != want {
			t.Errorf("%s: %+v, want %s", check, r, want)
		}
	}
	f("tcp 127.0.0.1:1", OK)
	f("http://x", Warn)
	f("inventory", Fail)
	if runtime.GOOS != "linux" {
		return
	}
	f("udp "+port.String(), Fail) // held by this test, which is not called crosstap
	if os.Geteuid() == 0 {
		f("CAP_NET_RAW", OK)
		f("TPACKET_V3 ring with vnet headers", OK)
		f("veth pair", OK)
		f("bridge", OK)
		find(t, list, "path of taps")
	}
	if !Failed(list) || Failed(nil) {
		t.Error("Failed")
	}
}

func TestNeeds(t *testing.T) {
	f := func(purposes []string, needs []string, want Level) {
		t.Helper()
		r := report{opt: Options{For: purposes}}
		r.missing("a", "b", "c", "d", "e", needs...)
		if got := r.results[0].Level; got != want {
			t.Errorf("for %v, needed by %v: %s, want %s", purposes, needs, got, want)
		}
	}
	f(nil, nil, Warn)
	f(nil, []string{"tap"}, Warn)
	f([]string{"serve"}, []string{"tap"}, Warn)
	f([]string{"serve", "tap"}, []string{"tap"}, Fail)
}
