package identity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
)

const whole = `apiVersion: crosstap/v1
kind: Inventory
hosts: [{name: h1, vteps: [10.200.0.1, "fd00::1"]}]
tenants: [{name: blue, segments: ["vxlan:5001", "vlan:10"]}]
vms:
  - name: web-1
    id: 3f0c
    from: 2026-01-01T00:00:00Z
    nics:
      - {mac: "02:00:00:00:00:01", addrs: [10.0.0.1, "fd00::a"], host: h1, port: vnet0, segment: "vxlan:5001"}
      - mac: 02:00:00:00:00:02
        to: 2026-01-02T00:00:00Z
observers:
  - {name: "h1 mirror", role: mirror, host: h1, exporter: 10.201.0.1, domain: 1}
`

func TestParse(t *testing.T) {
	got, err := Parse("inventory.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	jan1, jan2 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano(), time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).UnixNano()
	want := Inventory{
		Hosts:   []Host{{Name: "h1", VTEPs: []flow.Addr{addr("10.200.0.1"), addr("fd00::1")}}},
		Tenants: []Tenant{{Name: "blue", Segments: []flow.Segment{vxlan(5001), flow.NewSegment(flow.KindVLAN, 10)}}},
		VNICs: []VNIC{
			{
				Span: Span{FromNS: jan1}, VM: "web-1", VMID: "3f0c", MAC: 0x020000000001, Addrs: []flow.Addr{addr("10.0.0.1"), addr("fd00::a")},
				Host: "h1", Port: "vnet0", Segment: vxlan(5001),
			},
			{Span: Span{FromNS: jan1, ToNS: jan2}, VM: "web-1", VMID: "3f0c", MAC: 0x020000000002},
		},
		Observers: []Observer{{Name: "h1 mirror", Role: flow.RoleMirror, Host: "h1", Exporter: addr("10.201.0.1"), Domain: 1}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseRefuses(t *testing.T) {
	f := func(from, to, want string) {
		t.Helper()
		text := strings.Replace(whole, from, to, 1)
		if text == whole {
			t.Fatalf("%q is not in the file", from)
		}
		_, err := Parse("i.yaml", []byte(text))
		if err == nil || err.Error() != "inventory: i.yaml"+want {
			t.Errorf("error\n%v\nwant\ninventory: i.yaml%s", err, want)
		}
	}
	f("apiVersion: crosstap/v1", "apiVersion: v2", `:1:13: apiVersion: is "v2"; write "apiVersion: crosstap/v1"`)
	f("kind: Inventory\n", "", `:1:1: kind: is ""; write "kind: Inventory"`)
	f("vteps:", "vtep:", `:3:20: unknown key "vtep"; did you mean "vteps"?`)
	f("    id: 3f0c", "    uuid: 3f0c", `:7:5: unknown key "uuid"`)
	f("02:00:00:00:00:01", "02:00:00:00:01", `:10:15: vms[0].nics[0].mac: "02:00:00:00:01" is no MAC address; write six bytes as 02:00:00:00:00:01`)
	f("02:00:00:00:00:02", "03:00:00:00:00:02", `:11:14: vms[0].nics[1].mac: 03:00:00:00:00:02 is a group address; the lowest bit of the first byte must be 0`)
	f("[10.0.0.1,", "[10.0.0.1/24,", `:10:44: vms[0].nics[0].addrs[0]: "10.0.0.1/24" is no address; write 10.0.0.1 without the prefix length`)
	f(`"vlan:10"`, `"vlan:4096"`, `:4:49: tenants[0].segments[1]: "vlan:4096" is no segment: the number of kind vlan has 12 bits; write it as vxlan:5001 (kinds: vxlan, nvgre, vlan, geneve, gre)`)
	f("role: mirror", "role: miror", `:14:31: observers[0].role: "miror" is no role; did you mean "mirror"?`)
	f("role: mirror", "role: boss", `:14:31: observers[0].role: "boss" is no role; one of: vnic, port, mirror, tunnel, underlay`)
	f("to: 2026-01-02T00:00:00Z", "to: yesterday", `:12:13: vms[0].nics[1].to: "yesterday" is no RFC 3339 time; write it as 2026-01-31T12:00:00Z`)
	f("name: web-1", "name: ''", `:6:11: vms[0].name: is missing; give it one`)
	f(`"fd00::1"]}]`, `"fd00::1"]}, {name: h2, vteps: [10.200.0.1]}]`,
		`:3:72: hosts[1].vteps[0]: 10.200.0.1 is also an endpoint of host "h1"; a tunnel endpoint belongs to one host at a time`)
	f(`domain: 1}`, "domain: 1}\n  - {name: twin, exporter: 10.201.0.1, domain: 1}",
		`:15:6: observers[1]: "twin" matches the same records as "h1 mirror"; tell them apart by exporter, domain or point`)
}

func TestLoadNamesWhatIsMissing(t *testing.T) {
	_, err := Load("/does/not/exist.yaml")
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "inventory: /does/not/exist.yaml: no such file") {
		t.Error(err)
	}
	if _, err := Parse("x", nil); err == nil || !strings.Contains(err.Error(), "the file is empty") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("apiVersion: crosstap/v1\nkind: Inventory\nvms: [{name: &a x, nics: [*a]}]"))
	f.Add([]byte("{[?"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 {
			return
		}
		inv, err := Parse("f", text)
		var fe *FileError
		if err != nil && !errors.As(err, &fe) {
			t.Fatalf("%T: %v", err, err)
		}
		if err == nil {
			NewBook(inv)
		}
	})
}

func TestSucceed(t *testing.T) {
	a := addr("10.0.0.1")
	vm := func(name, host string, from, to int64) VNIC {
		return VNIC{Span: Span{FromNS: from, ToNS: to}, VM: name, MAC: 1, Addrs: []flow.Addr{a}, Host: host}
	}
	f := func(old, next, want []VNIC) {
		t.Helper()
		got := Succeed(Inventory{VNICs: old}, Inventory{VNICs: next}, 1000).VNICs
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	one := []VNIC{vm("web", "h1", 0, 0)}
	f(nil, one, one)
	f(one, one, one)
	f(one, nil, []VNIC{vm("web", "h1", 0, 1000)})
	// moved: the new place begins where the old one ended
	moved := []VNIC{vm("web", "h2", 1000, 0), vm("web", "h1", 0, 1000)}
	f(one, []VNIC{vm("web", "h2", 0, 0)}, moved)
	// moved at a time that the file tells
	f(one, []VNIC{vm("web", "h2", 700, 0)}, []VNIC{vm("web", "h2", 700, 0), vm("web", "h1", 0, 700)})
	// its address went to another machine
	f(one, []VNIC{vm("db", "h1", 0, 0)}, []VNIC{vm("db", "h1", 1000, 0), vm("web", "h1", 0, 1000)})
	// and back again
	f([]VNIC{vm("db", "h1", 500, 0), vm("web", "h1", 0, 500)}, one,
		[]VNIC{vm("web", "h1", 1000, 0), vm("db", "h1", 500, 1000), vm("web", "h1", 0, 500)})
	// unchanged after a move: the begin is not forgotten
	f([]VNIC{vm("web", "h2", 500, 0), vm("web", "h1", 0, 500)}, []VNIC{vm("web", "h2", 0, 0)},
		[]VNIC{vm("web", "h2", 500, 0), vm("web", "h1", 0, 500)})
	// an item that the file ends itself stays as it is
	f([]VNIC{vm("web", "h1", 0, 500)}, []VNIC{vm("web", "h1", 0, 500)}, []VNIC{vm("web", "h1", 0, 500)})
	// one that had not begun is forgotten
	f([]VNIC{vm("web", "h1", 2000, 0)}, nil, []VNIC{})

	long := int64(historyKept) + 5000
	got := Succeed(Inventory{VNICs: []VNIC{vm("web", "h1", 0, 4000)}}, Inventory{}, long)
	if len(got.VNICs) != 0 {
		t.Errorf("history is kept for ever: %+v", got.VNICs)
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	write := func(text string, mod int) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1_700_000_000+int64(mod), 0)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	open := strings.Replace(whole, "    from: 2026-01-01T00:00:00Z\n", "", 1) // the test's clock begins in 2000
	write(open, 0)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		var events []string
		var last Book
		done := make(chan error)
		go func() {
			done <- Watch(ctx, path, func(b Book, err error) {
				if err != nil {
					events = append(events, err.Error()[len("inventory: "+path):])
					return
				}
				last = b
				events = append(events, "book")
			})
		}()
		wait := func() { time.Sleep(watchEvery); synctest.Wait() }
		synctest.Wait()
		begin := time.Now().UnixNano()
		wait() // nothing changed
		write("apiVersion: crosstap/v1\nkind: Inventory\nvms: 3", 1)
		wait()
		wait() // the same mistake is told once
		write(strings.Replace(open, "web-1", "web-2", 1), 2)
		wait()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(events) != 4 || events[0] != "book" || !strings.Contains(events[1], ":3:") || events[2] != "book" || !strings.Contains(events[3], "no such file") {
			t.Errorf("events %q", events)
		}
		past, now := last.ByMAC(0x020000000001, begin), last.ByMAC(0x020000000001, time.Now().UnixNano())
		if past == nil || past.VM != "web-1" || now == nil || now.VM != "web-2" {
			t.Errorf("past %+v, now %+v", past, now)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	text.WriteString("apiVersion: crosstap/v1\nkind: Inventory\nvms:\n")
	for i := range 10_000 {
		fmt.Fprintf(&text, "- {name: vm-%d, nics: [{mac: \"02:00:00:%02x:%02x:%02x\", addrs: [10.%d.%d.%d], host: h%d, segment: \"vxlan:5001\"}]}\n",
			i, i>>16, i>>8&255, i&255, i>>16, i>>8&255, i&255, i%100)
	}
	for b.Loop() {
		if _, err := Parse("b", []byte(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}
