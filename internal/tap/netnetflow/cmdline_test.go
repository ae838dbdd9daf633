package netnetflow

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tap/export"
	"crosstap/internal/tap/meter"
)

// The tests are named by the items of the checklist of what ESX Server 3.5's net-netflow did.

func TestN01ListOfSwitches(t *testing.T) {
	if diff := cmp.Diff([]string{"vSwitch0", "prod1", "dmz"}, Switches([]string{"vSwitch0, prod1", "dmz"})); diff != "" {
		t.Error(diff)
	}
	f := func(want string, list ...string) {
		t.Helper()
		if err := checkNames(Switches(list)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", list, err)
		}
	}
	f("without a name", "a,,b")
	f("without a name", "")
	f("named twice", "a,b", "a")
}

func TestN02DefaultPort(t *testing.T) {
	f := func(s, host string, port uint16) {
		t.Helper()
		got, err := Collector(s)
		if err != nil || got.Host != host || got.Port != port || got.Format != export.NetFlow5 {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	f("10.0.0.9", "10.0.0.9", 2055)
	f("10.0.0.9:9995", "10.0.0.9", 9995)
	f("[2001:db8::9]:9995", "2001:db8::9", 9995)
	f("[2001:db8::9]", "2001:db8::9", 2055)
	f("2001:db8::9", "2001:db8::9", 2055)
}

func TestN03NeedsSwitchAndCollector(t *testing.T) {
	f := func(change func(*Config), want string) {
		t.Helper()
		c := DefaultConfig()
		c.Switches, c.Targets = []string{"br0"}, []export.Target{{Host: "h", Port: 1, Format: export.NetFlow5}}
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
	f(func(c *Config) { c.Switches = nil }, "no switch")
	f(func(c *Config) { c.Targets = nil }, "no collector")
	f(func(c *Config) { c.Period = 0 }, "polling period of 0 ms: must be 10 to 60000")
	f(func(c *Config) { c.Sampling = 20000 }, "tells at most 16383")
	f(func(c *Config) { c.Queue = 0 }, "queue of 0 flows")
	f(func(c *Config) { c.SnapLen = 1 }, "snap length")
	f(func(c *Config) { c.Idle = 0 }, "idle timeout")
	f(func(c *Config) { c.Report = 0 }, "reports every")
}

func TestN04AddressOrName(t *testing.T) {
	got, err := Collector("netflow.example.com")
	if err != nil || got.Host != "netflow.example.com" || got.Port != 2055 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, s := range []string{"", ":2055", "h:0", "h:70000", "h:x", "a b", "a,b", "h/x"} {
		if got, err := Collector(s); err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func TestN07PollingPeriod(t *testing.T) {
	if c := DefaultConfig(); c.Period != 1000*time.Millisecond {
		t.Errorf("%v", c.Period)
	}
}

func TestN09PortIDs(t *testing.T) {
	f := func(id int, port uint32, want uint16, why string) {
		t.Helper()
		got, err := PortID(id, port)
		if got != want || (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("switch %d, port %d: %d, %v", id, port, got, err)
		}
	}
	f(0, 0, 0, "")
	f(1, 1, 513, "")
	f(127, 511, 65535, "")
	f(3, 0xfffe, 2046, "") // Open vSwitch's local port
	f(128, 1, 0, "does not fit into 7 bits (0 to 127)")
	f(-1, 1, 0, "7 bits")
	f(1, 512, 0, "does not fit into 9 bits (0 to 511)")
}

// The manual's example is interface 13 written as 1549, and calls the switch 2. The formula gives 1549 for switch 3; switch 2 would
// be 1037.
func TestN10TheManualsExample(t *testing.T) {
	three, _ := PortID(3, 13)
	two, _ := PortID(2, 13)
	if three != 1549 || two != 1037 {
		t.Errorf("switch 3: %d, switch 2: %d", three, two)
	}
}

func TestN12Timeouts(t *testing.T) {
	c := DefaultConfig()
	if c.Idle != 15*time.Second || c.Active != 300*time.Second || c.Key != meter.KeyOuter {
		t.Errorf("%v, %v, %v", c.Idle, c.Active, c.Key)
	}
}

func TestN28HistoricCommandLine(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		got, err := Historic(strings.Fields(line))
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
	f("vmkload_app -i vmktcp /usr/lib/vmware/bin/net-netflow -e vSwitch0,prod1 10.0.0.9", "-e vSwitch0,prod1 10.0.0.9")
	f("/usr/sbin/vmkload_app -S -i vmktcp /usr/lib/vmware/bin/net-netflow -e vSwitch0 h:9995 -s 100", "-S -e vSwitch0 h:9995 -s 100")
	f("vmkload_app -ivmktcp net-netflow -h", "-h")
	f("-e br0 h", "-e br0 h")
	f("", "")
	for _, line := range []string{"vmkload_app -i vmktcp", "vmkload_app -x net-netflow", "vmkload_app /bin/ls"} {
		if got, err := Historic(strings.Fields(line)); err == nil {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// The numbers of switches stay, whatever the order in which they are asked for later.
func TestSwitchNumbers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "ids.json")
	a, b, c := switchKey{kindBridge, "a"}, switchKey{kindOVS, "a"}, switchKey{kindBridge, "c"}
	f := func(chosen map[string]int, k switchKey, portIDs bool, want int, why string) {
		t.Helper()
		got, err := newIDs(path, chosen).of(k, portIDs)
		if got != want || (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%v: %d, %v", k, got, err)
		}
	}
	f(nil, a, false, 1, "")
	f(nil, b, true, 2, "")
	f(nil, a, false, 1, "")
	f(map[string]int{"c": 2}, c, false, 0, "2 is that of ovs:a")
	f(map[string]int{"c": 200}, c, true, 0, "has number 200: port ids (-p) have 7 bits for it, so it must be 1 to 127: choose one with --switch-id c=N")
	f(map[string]int{"c": 7}, c, true, 7, "")
	f(nil, c, false, 7, "")
	for i := range 124 {
		newIDs(path, nil).of(switchKey{kindBridge, strings.Repeat("x", i+1)}, true)
	}
	f(nil, switchKey{kindBridge, "late"}, true, 0, "must be 1 to 127")
	f(nil, switchKey{kindBridge, "late"}, false, 128, "")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	f(nil, a, false, 0, "mend or remove the file")
}
