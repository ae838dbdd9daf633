package vsphere

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/vsphere/vsim"
)

const vm0, vm1, vm2, vm3 = "DC0_C0_RP0_VM0", "DC0_C0_RP0_VM1", "DC0_C0_RP0_VM2", "DC0_C0_RP0_VM3"

// editSessions lets an administrator change the mirror sessions of the switch.
func editSessions(t *testing.T, c *govmomi.Client, f *find.Finder, change func([]types.VMwareVspanSession) []types.VMwareDVSVspanConfigSpec) {
	t.Helper()
	ctx := t.Context()
	net, err := f.Network(ctx, "DVS0")
	if err != nil {
		t.Fatal(err)
	}
	var sw mo.DistributedVirtualSwitch
	if err := property.DefaultCollector(c.Client).RetrieveOne(ctx, net.Reference(), []string{"config"}, &sw); err != nil {
		t.Fatal(err)
	}
	config := sw.Config.(*types.VMwareDVSConfigInfo)
	task, err := object.NewDistributedVirtualSwitch(c.Client, net.Reference()).Reconfigure(ctx, &types.VMwareDVSConfigSpec{
		DVSConfigSpec: types.DVSConfigSpec{ConfigVersion: config.ConfigVersion}, VspanConfigSpec: change(config.VspanSession),
	})
	done(t, task, err)
}

func edit(s types.VMwareVspanSession) []types.VMwareDVSVspanConfigSpec {
	return []types.VMwareDVSVspanConfigSpec{{Operation: "edit", VspanSession: s}}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	ctx := t.Context()
	client, f := admin(t, sim)
	s := read(t, v)
	want := remoteSession(t, s, "web", vm0, vm1)
	do(t, v, want)
	vm, err := f.VirtualMachine(ctx, vm0)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a migrated machine needs no step", func(t *testing.T) {
		p := vmPort(s, vm0)
		for id := range s.Hosts {
			if id != p.Host {
				task, err := vm.Relocate(ctx, types.VirtualMachineRelocateSpec{Host: &types.ManagedObjectReference{Type: "HostSystem", Value: id}}, types.VirtualMachineMovePriorityDefaultPriority)
				done(t, task, err)
			}
		}
		if now := vmPort(read(t, v), vm0); now.Host == p.Host || now.ID != p.ID {
			t.Fatalf("port after migration %+v, before %+v", now, p)
		}
		settled(t, v, want)
	})
	t.Run("an added adapter joins", func(t *testing.T) {
		addNIC(t, f, vm, "DC0_DVPG0")
		now := read(t, v)
		ports := vmPorts(now, vm0)
		if len(ports) != 2 {
			t.Fatalf("%d ports", len(ports))
		}
		want = remoteSession(t, now, "web", vm0, vm1)
		want.Sources = nil
		for _, p := range append(ports, vmPort(now, vm1)) {
			want.Sources = append(want.Sources, platform.Source{Port: p.ID, Dir: platform.Both})
		}
		steps := do(t, v, want)
		if len(steps) != 1 || steps[0].Action != platform.Change || !strings.Contains(steps[0].Why, "received") {
			t.Errorf("steps: %+v", steps)
		}
		settled(t, v, want)
	})
	t.Run("drift is found, named and repaired", func(t *testing.T) {
		editSessions(t, client, f, func(list []types.VMwareVspanSession) []types.VMwareDVSVspanConfigSpec {
			list[0].Enabled = false
			list[0].DestinationPort.IpAddress = []string{"198.51.100.66"}
			return edit(list[0])
		})
		now := read(t, v)
		steps := plan(t, v, now, want)
		if len(steps) != 1 || !strings.Contains(steps[0].Why, `enabled is "no", not "yes"`) || !strings.Contains(steps[0].Why, "198.51.100.66") {
			t.Fatalf("steps: %+v", steps)
		}
		user, at, err := v.ChangedBy(ctx, objectsOf(now, kindSession)[0].ID)
		if err != nil || user != sim.User || at.IsZero() {
			t.Errorf("changed by %q at %v: %v", user, at, err)
		}
		do(t, v, want)
		settled(t, v, want)
	})
	t.Run("renamed by somebody", func(t *testing.T) {
		editSessions(t, client, f, func(list []types.VMwareVspanSession) []types.VMwareDVSVspanConfigSpec {
			list[0].Name = "do not touch"
			return edit(list[0])
		})
		do(t, v, want)
		settled(t, v, want)
		if o := objectsOf(read(t, v), kindSession); len(o) != 1 || o[0].Name != "crosstap-web-dvs" {
			t.Errorf("sessions: %+v", o)
		}
	})
	t.Run("nothing wanted removes it", func(t *testing.T) {
		steps := do(t, v)
		if len(steps) != 1 || steps[0].Action != platform.Remove || steps[0].Phase != platform.PhaseCleanup {
			t.Errorf("steps: %+v", steps)
		}
		if o := objectsOf(read(t, v), kindSession); len(o) != 0 {
			t.Errorf("left: %+v", o)
		}
	})
}

func TestForeignSessionsStay(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	client, f := admin(t, sim)
	s := read(t, v)
	key, _ := portKey(switchNamed(t, s, "DVS0").ID, vmPort(s, vm3).ID)
	foreign := types.VMwareVspanSession{
		Name: "ops", Description: "owner of nothing", Enabled: true, SessionType: encapsulated, SamplingRate: 1,
		SourcePortReceived: &types.VMwareVspanPort{PortKey: []string{key}}, DestinationPort: &types.VMwareVspanPort{IpAddress: []string{"192.0.2.77"}},
	}
	other := foreign
	other.Name, other.Description = "crosstap-theirs", platform.Mark{Owner: "you", Policy: "theirs"}.Text()
	bare := foreign
	bare.Name, bare.Description = "crosstap-bare-dvs", ""
	editSessions(t, client, f, func([]types.VMwareVspanSession) (out []types.VMwareDVSVspanConfigSpec) {
		for _, n := range []types.VMwareVspanSession{foreign, other, bare} {
			out = append(out, types.VMwareDVSVspanConfigSpec{Operation: "add", VspanSession: n})
		}
		return out
	})
	before := read(t, v)
	want := remoteSession(t, before, "web", vm0)
	do(t, v, want)
	do(t, v)
	after := read(t, v)
	for _, o := range objectsOf(before, kindSession) {
		if now := after.Objects[o.ID]; now == nil || len(differ(now.Raw, o.Raw)) > 0 {
			t.Errorf("session %q of somebody else: %+v", o.Name, now)
		}
	}
	if n := len(objectsOf(after, kindSession)); n != 3 {
		t.Errorf("%d sessions, want the 3 of others", n)
	}
	_, refused := v.Steps(after, platform.Want{Owner: "me", Sessions: []platform.Session{remoteSession(t, after, "bare", vm0)}})
	if len(refused) != 1 || refused[0].Reason != platform.ReasonConflict || refused[0].Fix == "" {
		t.Errorf("a name that is taken: %+v", refused)
	}
}

func TestConcurrentEditors(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	want := remoteSession(t, read(t, v), "web", vm0)
	sim.Conflict(3)
	do(t, v, want)
	if n := sim.Calls("ReconfigureDvs_Task"); n < 4 {
		t.Errorf("%d attempts, want 4 at least", n)
	}
	settled(t, v, want)

	want.Sample = 5
	steps := plan(t, v, read(t, v), want)
	sim.Conflict(1000)
	if err := v.Apply(t.Context(), steps[0]); !errors.Is(err, platform.ErrChanged) {
		t.Errorf("always another version: %v", err)
	}
	sim.Conflict(0)

	client, f := admin(t, sim)
	editSessions(t, client, f, func(list []types.VMwareVspanSession) []types.VMwareDVSVspanConfigSpec {
		list[0].SamplingRate = 77
		return edit(list[0])
	})
	err := v.Apply(t.Context(), steps[0])
	if !errors.Is(err, platform.ErrChanged) || !strings.Contains(err.Error(), `sampling is "77"`) {
		t.Errorf("a session that was changed since: %v", err)
	}
	if o := objectsOf(read(t, v), kindSession); o[0].Raw["sampling"] != "77" {
		t.Error("the step did something")
	}
}

func TestSessionLostMeanwhile(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	want := remoteSession(t, read(t, v), "web", vm0)
	steps := plan(t, v, read(t, v), want)
	sim.DropSessions()
	if err := v.Apply(t.Context(), steps[0]); err != nil {
		t.Fatalf("after the vCenter ended the session: %v", err)
	}
	settled(t, v, want)
}

func TestFaultsSayWhatToDo(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{VMs: 2})
	step := plan(t, v, read(t, v), remoteSession(t, read(t, v), "web", vm0))[0]
	f := func(fault types.BaseMethodFault, base error, words string) {
		t.Helper()
		sim.Fail("ReconfigureDvs_Task", 1, fault)
		err := v.Apply(t.Context(), step)
		if err == nil || base != nil && !errors.Is(err, base) || !strings.Contains(err.Error(), words) {
			t.Errorf("%T: %v; want %q", fault, err, words)
		}
	}
	f(&types.NoPermission{Object: &types.ManagedObjectReference{Type: "DistributedVirtualSwitch", Value: "dvs-9"}, PrivilegeId: "DVSwitch.Vspan"}, platform.ErrDenied, "DVSwitch.Vspan on dvs-9")
	f(&types.RestrictedVersion{}, platform.ErrDenied, "licence")
	f(&types.DvsNotAuthorized{SessionExtensionKey: "com.vmware.nsx"}, platform.ErrDenied, "com.vmware.nsx")
	f(&types.VspanPromiscuousPortNotSupported{PortKey: "4"}, nil, "promiscuous")
	f(&types.VspanDestPortConflict{PortKey: "4", VspanSessionKey1: "k1"}, nil, "destination of another session already (k1)")
	f(&types.VspanSameSessionPortConflict{PortKey: "4"}, nil, "a source and a destination")
	f(&types.VspanPortConflict{PortKey: "4"}, nil, "destination of another")
	f(&types.LimitExceeded{Property: "vspanSession", Limit: types.NewInt32(4)}, nil, "the limit of vspanSession is 4")
	f(&types.InvalidArgument{InvalidProperty: "spec.erspanId"}, nil, "spec.erspanId")
	f(&types.NotSupported{}, nil, "does not support it (NotSupported)")
	f(&types.HostNotConnected{}, platform.ErrUnreachable, "reconnect it, or see to its management network, then apply again (HostNotConnected)")
	f(&types.ResourceInUse{Type: "DistributedVirtualPort", Name: "12"}, nil, "DistributedVirtualPort 12 is in use: take what is attached to it away first (ResourceInUse)")
	f(&types.InvalidLogin{}, platform.ErrDenied, "does not take this user and password; set them right in the Platform resource (InvalidLogin)")
	f(&types.DvsFault{}, nil, "the server refuses with the fault DvsFault")
	f(&types.DvsApplyOperationFault{ObjectFault: []types.DvsApplyOperationFaultFaultOnObject{{ObjectId: "12", Type: "port", Fault: types.LocalizedMethodFault{Fault: &types.ResourceInUse{Name: "12"}}}}}, nil,
		"did not take it for port 12 (12 is in use: take what is attached to it away first; ResourceInUse) (DvsApplyOperationFault)")
	f(&types.ManagedObjectNotFound{Obj: types.ManagedObjectReference{Value: "dvs-9"}}, platform.ErrGone, "dvs-9")
	if err := v.Apply(t.Context(), step); err != nil {
		t.Errorf("without a fault: %v", err)
	}
}

func TestHostsThatDoNotTakeIt(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{VMs: 2})
	s := read(t, v)
	want, away := remoteSession(t, s, "web", vm0), platform.Sorted(s.Hosts)[0]
	sim.FailTask(&types.DvsOperationBulkFault{HostFault: []types.DvsOperationBulkFaultFaultOnHost{{
		Host: types.ManagedObjectReference{Type: "HostSystem", Value: away.ID}, Fault: types.LocalizedMethodFault{Fault: &types.HostNotConnected{}},
	}}})
	step := plan(t, v, s, want)[0]
	err := v.Apply(t.Context(), step)
	if err == nil || !strings.Contains(err.Error(), away.Name+" ["+away.ID+"] (the vCenter has no connection to the host; reconnect it") || !strings.Contains(err.Error(), "HostNotConnected") || !strings.Contains(err.Error(), "apply again") {
		t.Errorf("a host that is away: %v", err)
	}
	if err := v.Undo(t.Context(), step); err != nil {
		t.Errorf("undo: %v", err)
	}
	if o := objectsOf(read(t, v), kindSession); len(o) != 0 {
		t.Errorf("left: %+v", o)
	}
}

func TestPrivileges(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{VMs: 2})
	see := []string{"System.View", "System.Read", "System.Anonymous"}
	sim.AddUser("observer", "o", see...)
	sim.AddUser("mirror", "m", append(see, "DVSwitch.Vspan")...)
	s := read(t, v)
	dvs := switchNamed(t, s, "DVS0").ID
	want := remoteSession(t, s, "web", vm0)

	observer := dialAs(t, sim, "observer", "o", nil)
	missing, err := observer.Missing(t.Context(), platform.MethodRemoteMirror, dvs)
	if err != nil || len(missing) != 1 || missing[0] != "DVSwitch.Vspan on "+dvs {
		t.Errorf("an observer lacks %q: %v", missing, err)
	}
	step := plan(t, observer, read(t, observer), want)[0]
	if err := observer.Apply(t.Context(), step); !errors.Is(err, platform.ErrDenied) || !strings.Contains(err.Error(), "DVSwitch.Vspan on DVS0 ["+dvs+"]") {
		t.Errorf("an observer applies: %v", err)
	}
	mirror := dialAs(t, sim, "mirror", "m", nil)
	if missing, err := mirror.Missing(t.Context(), platform.MethodRemoteMirror, dvs); err != nil || len(missing) != 0 {
		t.Errorf("with the role of the guide: lacks %q: %v", missing, err)
	}
	if missing, err := mirror.Missing(t.Context(), platform.MethodFlowsOnly, dvs); err != nil || len(missing) < 2 {
		t.Errorf("flows with the role of mirrors: lacks %q: %v", missing, err)
	}
	do(t, mirror, want)
	settled(t, mirror, want)
}

// A server that takes connections and answers nothing: who has little time is not held up by who has much.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	asked, end := make(chan struct{}, 10), make(chan struct{})
	silent := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-end }))
	defer silent.Close()
	defer close(end)
	v, err := New(Config{Name: "vc", Address: silent.URL, User: "u", Thumbprint: colons(sum256(silent.Certificate().Raw)), Password: func() (string, error) { return "p", nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- v.Watch(ctx, func(platform.Update) {}) }()
	<-asked
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := v.Read(short); !errors.Is(err, platform.ErrUnreachable) {
		t.Errorf("read: %v", err)
	}
	stop()
	if err := <-watched; err != nil {
		t.Errorf("watch: %v", err)
	}
}

// A session that ends with a collector of its own takes nothing else along: the simulated server goes on.
func TestLogoutWhileWatching(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{VMs: 1})
	client, _ := admin(t, sim)
	if _, err := property.DefaultCollector(client.Client).Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	read(t, v)
}

func sum256(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

func TestLogin(t *testing.T) {
	t.Parallel()
	sim, good := simulate(t, vsim.Config{VMs: 1})
	read(t, good)
	bad := dialAs(t, sim, sim.User, "hunter2", nil)
	err := bad.Watch(t.Context(), func(platform.Update) { t.Error("an update") })
	if !errors.Is(err, platform.ErrDenied) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("wrong password: %v", err)
	}
	f := func(words string, change func(*Config)) {
		t.Helper()
		c := Config{Name: "vc", Address: sim.URL, User: sim.User, Password: func() (string, error) { return sim.Password, nil }}
		change(&c)
		v, err := New(c)
		if err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = v.Watch(ctx, func(u platform.Update) {
				if u.Whole {
					cancel()
				}
			})
			_ = v.Close()
		}
		if words == "" && err != nil || words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
			t.Errorf("%v; want %q", err, words)
		}
	}
	f("is not the pinned one", func(c *Config) { c.Thumbprint = strings.Repeat("AB:", 31) + "AB" })
	f("set this as thumbprint", func(c *Config) { c.Thumbprint = strings.Repeat("00", 32) })
	f("give its authority (ca) or the SHA-256", func(*Config) {})
	f("64 hexadecimal digits", func(c *Config) { c.Thumbprint = "AB:CD" })
	f("user: is missing", func(c *Config) { c.User = "" })
	f("where everybody can see them", func(c *Config) { c.Address = "https://u:p@vc/sdk" })
	f("want https://", func(c *Config) { c.Address = "http://vc/sdk" })
	f("max-sessions", func(c *Config) { c.Options = map[string]string{"max-sessions": "many"} })
	f("there is none", func(c *Config) { c.Options = map[string]string{"colour": "red"} })
	f("CROSSTAP_TEST_NOWHERE", func(c *Config) { c.Thumbprint, c.Password = sim.Thumbprint, PasswordFrom("", "CROSSTAP_TEST_NOWHERE") })
	f("no such file", func(c *Config) { c.Thumbprint, c.Password = sim.Thumbprint, PasswordFrom("/nowhere/at/all", "") })
	f("", func(c *Config) {
		c.Thumbprint = "sha256:" + strings.ToLower(strings.ReplaceAll(sim.Thumbprint, ":", ""))
	})
	f("", func(c *Config) { c.CAFile = writeFile(t, sim.CertPEM) })
	f("", func(c *Config) {
		c.Thumbprint, c.Password = sim.Thumbprint, PasswordFrom(writeFile(t, []byte(sim.Password+"\n")), "")
	})
}
