package ovs_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/ovs"
)

// Exports of a whole bridge: the rows that ovs-vsctl reads, the records that tshark reads, taps that share a row, and rows of others.
func TestExports(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 2)
	c := l.config()
	c.Exports = ovs.Options{IPFIXBridge: true, IPFIXFlows: 100, IPFIXID: "kvm", NetFlowID: true, Engine: 3, Agent: "br-phy", Header: 64, Polling: 1}
	p := open(t, c)
	all := func(policy, protocol, to string) platform.Session {
		return l.export(policy, protocol, to, l.vms[0], l.vms[1])
	}
	netflow, sflow, ipfix := all("a-nf", "netflow5", "10.99.0.9:2055"), all("b-sf", "sflow", "10.99.0.9:6343"), all("c-ix", "ipfix", "10.99.0.9:4739")
	second := all("d-nf", "netflow5", "10.99.0.9:2056")
	steps := l.converge(p, netflow, sflow, ipfix, second)
	for _, want := range []string{
		`create NetFlow active_timeout=1 add_id_to_interface=true engine_id=7 engine_type=2`, `'targets="10.99.0.9:2055","10.99.0.9:2056"'`,
		`create sFlow 'agent="br-phy"'`, `header=64 polling=1 sampling=1`, `cache_active_timeout=1 cache_max_flows=100`, `obs_domain_id=7 obs_point_id=1`, `other_config:virtual_obs_id="kvm"`,
	} {
		if text := texts(steps); !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	f := func(table, columns, want string) {
		t.Helper()
		if got := strings.Join(strings.Fields(l.db.Vsctl("--no-headings --format=csv --columns="+columns+" list "+table)), " "); got != want {
			t.Errorf("%s: %s\nwant %s", table, got, want)
		}
	}
	f("netflow", "active_timeout,add_id_to_interface,engine_id,engine_type,targets", `1,true,7,2,"[""10.99.0.9:2055"", ""10.99.0.9:2056""]"`)
	f("sflow", "agent,header,polling,sampling,targets", `br-phy,64,1,1,"[""10.99.0.9:6343""]"`)
	// Input and output sampling stay unsaid: up to 3.1 the keys mean the opposite (docs/guide/policies.md).
	f("ipfix", "cache_active_timeout,cache_max_flows,obs_domain_id,obs_point_id,sampling,other_config", `1,100,7,1,1,{virtual_obs_id=kvm}`)

	got := l.capture(l.tool, "udp dst port 2055 or udp dst port 2056 or udp dst port 6343 or udp dst port 4739")
	talk := func(want ...string) func([]string) bool {
		return func(rows []string) bool {
			l.send(l.vms[0], l.vms[1], 5000, 5)
			for _, w := range want {
				if !strings.Contains("\n"+strings.Join(rows, "\n")+"\n", "\n"+w+"\n") {
					return false
				}
			}
			return true
		}
	}
	want := []string{"2055 5 10.1.0.1 10.1.0.2 5000 2 7 ", "2056 5 10.1.0.1 10.1.0.2 5000 2 7 ", "4739 10 10.1.0.1 10.1.0.2 5000   7"}
	met := false
	text := got.has(func(rows []string) bool { met = talk(want...)(rows); return met }, "cflow", "udp.dstport", "cflow.version", "cflow.srcaddr", "cflow.dstaddr", "cflow.dstport",
		"cflow.engine_type", "cflow.engine_id", "cflow.od_id")
	if !met {
		t.Errorf("tshark reads %s\nwant %q", text, want)
	}
	got = l.capture(l.tool, "udp dst port 6343")
	text = got.has(func(rows []string) bool { met = talk("10.1.0.1 10.1.0.2 5000")(rows); return met }, "sflow", "ip.src", "ip.dst", "udp.dstport")
	if !met {
		t.Errorf("tshark reads in sFlow %s", text)
	}

	// Another sampling for the same row is a conflict that names the tap.
	third := all("e-sf", "sflow", "10.99.0.9:6344")
	third.Flows.Sampling = 64
	if r := l.refusal(p, netflow, sflow, ipfix, second, third); r.Policy != "e-sf" || r.Reason != platform.ReasonConflict || !strings.Contains(r.Message, "tap b-sf") || !strings.Contains(r.Message, "sampling 1, wanted 64") {
		t.Errorf("%+v", r)
	}
	leased := netflow
	leased.Lease.TTL = time.Minute
	if r := l.refusal(p, leased); r.Reason != platform.ReasonCapability || !strings.Contains(r.Message, "goes on without a controller") {
		t.Errorf("%+v", r)
	}
	l.converge(p)

	// Rows of others: refused by name, and left when they come between plan and apply.
	foreign := func() {
		l.db.Vsctl(`-- --id=@n create netflow targets="192.0.2.1:2055" external_ids:owner=neutron -- set bridge br-int netflow=@n`)
	}
	plan, _ := l.steps(p, nil, netflow)
	foreign()
	if r := l.refusal(p, netflow); r.Reason != platform.ReasonConflict || !strings.Contains(r.Message, "192.0.2.1:2055 (owner=neutron)") {
		t.Errorf("%+v", r)
	}
	if len(plan) != 1 {
		t.Fatalf("plan: %s", texts(plan))
	}
	if err := p.Apply(t.Context(), plan[0]); !errors.Is(err, platform.ErrChanged) || !strings.Contains(err.Error(), "neutron") {
		t.Errorf("apply over somebody else's row: %v", err)
	}
	f("netflow", "targets", `"[""192.0.2.1:2055""]"`)

	// Another control line's row names that line.
	l.db.Vsctl("clear bridge br-int netflow")
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	theirs := netflow
	theirs.Mark.Owner = "other"
	steps, _ = p.Steps(now, platform.Want{Owner: "other", Sessions: []platform.Session{theirs}})
	for _, s := range steps {
		must(t, p.Apply(t.Context(), s))
	}
	if r := l.refusal(p, netflow); r.Reason != platform.ReasonConflict || !strings.Contains(r.Message, "the control line other (tap a-nf)") {
		t.Errorf("%+v", r)
	}
}
