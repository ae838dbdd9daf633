package vsphere

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/vsphere/vsim"
)

// patience is how long a test waits for what shall come; nothing takes nearly as long on a machine that is not at its limit.
const patience = 3 * time.Minute

// simulate starts a vCenter and returns it with a platform that talks to it.
func simulate(t *testing.T, c vsim.Config) (*vsim.Server, *VSphere) {
	t.Helper()
	s, err := vsim.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, dialAs(t, s, s.User, s.Password, nil)
}

func dialAs(t *testing.T, s *vsim.Server, user, password string, options map[string]string) *VSphere {
	t.Helper()
	v, err := New(Config{
		Name: "vc", Address: s.URL, User: user, Password: func() (string, error) { return password, nil }, Thumbprint: s.Thumbprint, Options: options,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// admin is an administrator with a client of VMware's own making.
func admin(t *testing.T, s *vsim.Server) (*govmomi.Client, *find.Finder) {
	t.Helper()
	ctx := t.Context()
	u := s.Login()
	c, err := govmomi.NewClient(ctx, u, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Logout(context.Background()) })
	f := find.NewFinder(c.Client)
	dc, err := f.DefaultDatacenter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c, f.SetDatacenter(dc)
}

// done waits for a task.
func done(t *testing.T, task *object.Task, err error) {
	t.Helper()
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// watching follows a platform until the test ends.
type watching struct {
	t    *testing.T
	mu   sync.Mutex
	inv  *platform.Inventory
	lost []error
	all  int // whole updates
	n    int
}

func watch(t *testing.T, v *VSphere) *watching {
	t.Helper()
	w := &watching{t: t, inv: platform.NewInventory(v.Name())}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- v.Watch(ctx, w.update) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return w
}

func (w *watching) update(u platform.Update) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	if u.Lost != nil {
		w.lost = append(w.lost, u.Lost)
		return
	}
	if u.Whole {
		w.all++
	}
	w.inv.Apply(u)
}

func (w *watching) wholes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all
}

// until waits until the inventory is so.
func (w *watching) until(what string, is func(*platform.Snapshot) bool) *platform.Snapshot {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		s := w.inv.Snapshot()
		ready := w.all > 0
		w.mu.Unlock()
		if ready && is(s) {
			return s
		}
		if time.Now().After(end) {
			w.t.Fatalf("the inventory never had: %s", what)
		}
	}
}

// vmPort returns the first port of a machine.
func vmPort(s *platform.Snapshot, vm string) *platform.Port {
	ports := vmPorts(s, vm)
	if len(ports) == 0 {
		return nil
	}
	return ports[0]
}

func vmPorts(s *platform.Snapshot, vm string) (out []*platform.Port) {
	for _, p := range platform.Sorted(s.Ports) {
		if m := s.VMs[p.VM]; m != nil && m.Name == vm {
			out = append(out, p)
		}
	}
	return out
}

func switchNamed(t *testing.T, s *platform.Snapshot, name string) *platform.Switch {
	t.Helper()
	for _, sw := range platform.Sorted(s.Switches) {
		if sw.Name == name {
			return sw
		}
	}
	t.Fatalf("no switch %q", name)
	return nil
}

func objectsOf(s *platform.Snapshot, kind string) (out []*platform.Object) {
	for _, o := range platform.Sorted(s.Objects) {
		if o.Kind == kind {
			out = append(out, o)
		}
	}
	return out
}

// mark is the mark of a tap of ours.
func mark(policy, digest string) platform.Mark {
	return platform.Mark{Owner: "me", Policy: policy, Part: "dvs", Digest: digest}
}

// remoteSession copies what machines send and get to an address.
func remoteSession(t *testing.T, s *platform.Snapshot, policy string, vms ...string) platform.Session {
	t.Helper()
	out := platform.Session{
		Mark: mark(policy, strings.Join(vms, "+")), Method: platform.MethodRemoteMirror, Switch: switchNamed(t, s, "DVS0").ID,
		Outputs: []platform.Output{{Name: "ids", Encap: platform.EncapERSPAN2, Addr: netip.MustParseAddr("192.0.2.9"), Key: 7}},
	}
	for _, vm := range vms {
		p := vmPort(s, vm)
		if p == nil {
			t.Fatalf("%s has no port", vm)
		}
		out.Sources = append(out.Sources, platform.Source{Port: p.ID, Dir: platform.Both})
	}
	slices.SortFunc(out.Sources, func(a, b platform.Source) int { return strings.Compare(a.Port, b.Port) })
	return out
}

// plan makes the steps, and wants none refused.
func plan(t *testing.T, v *VSphere, now *platform.Snapshot, want ...platform.Session) []platform.Step {
	t.Helper()
	steps, refused := v.Steps(now, platform.Want{Owner: "me", Sessions: want})
	for _, r := range refused {
		t.Errorf("refused: %s: %s (%s)", r.Reason, r.Message, r.Fix)
	}
	return steps
}

// do plans on the present state and applies.
func do(t *testing.T, v *VSphere, want ...platform.Session) []platform.Step {
	t.Helper()
	steps := plan(t, v, read(t, v), want...)
	for _, s := range steps {
		if err := v.Apply(t.Context(), s); err != nil {
			t.Fatalf("%s %s: %v", s.Action, s.Object, err)
		}
	}
	return steps
}

func read(t *testing.T, v *VSphere) *platform.Snapshot {
	t.Helper()
	s, err := v.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// settled wants nothing to be left to do.
func settled(t *testing.T, v *VSphere, want ...platform.Session) {
	t.Helper()
	for _, s := range plan(t, v, read(t, v), want...) {
		t.Errorf("left to do: %s %s: %s", s.Action, s.Object, s.Why)
	}
}

// addNIC gives a machine one more adapter.
func addNIC(t *testing.T, f *find.Finder, m *object.VirtualMachine, network string) {
	t.Helper()
	ctx := t.Context()
	net, err := f.Network(ctx, network)
	if err != nil {
		t.Fatal(err)
	}
	backing, err := net.EthernetCardBackingInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	card, err := object.EthernetCardTypes().CreateEthernetCard("vmxnet3", backing)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddDevice(ctx, card); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func mustConnect(t *testing.T, v *VSphere) *connection {
	t.Helper()
	c, err := v.connected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func groupVersion(t *testing.T, c *connection, ref types.ManagedObjectReference) string {
	t.Helper()
	var g mo.DistributedVirtualPortgroup
	if err := get(t.Context(), c, ref, &g, "config"); err != nil {
		t.Fatal(err)
	}
	return g.Config.ConfigVersion
}

// refOf returns the reference of a machine.
func refOf(t *testing.T, v *VSphere, name string) string {
	t.Helper()
	c := mustConnect(t, v)
	refs, err := list(t.Context(), c, "VirtualMachine")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range refs {
		var vm mo.VirtualMachine
		if err := get(t.Context(), c, r, &vm, "name"); err != nil {
			t.Fatal(err)
		}
		if vm.Name == name {
			return r.Value
		}
	}
	t.Fatalf("no machine %q", name)
	return ""
}
