package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// What a selector finds while it is written is what a plan of it would choose and refuse.
func TestFind(t *testing.T) {
	w := &world{}
	h1, h2 := w.host("h1", capable), w.host("h2", capable)
	w.port(h1, "web-1", platform.PortVM, 1)
	w.port(h1, "web-2", platform.PortVM, 2)
	w.port(h1, "br", platform.PortKernel, 0)
	w.port(h2, "web-3", platform.PortVM, 1)
	w.port(h2, "db-1", platform.PortVM, 1)
	set, err := policy.Parse("test", []byte("apiVersion: crosstap/v1\nkind: Tenant\nmetadata: {name: blue}\nspec: {segments: ['vxlan:1']}\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := func(selects, exclude, tenant string, most int, want string) {
		t.Helper()
		tap := &policy.Tap{Tenant: tenant}
		if tap.Select, err = policy.ParseSelector(selects); err != nil {
			t.Fatal(err)
		}
		if tap.Exclude, err = policy.ParseSelector(exclude); err != nil {
			t.Fatal(err)
		}
		m := Find(Input{Set: set, Snapshots: w.snaps, Now: at}, tap, most)
		if m.Known != 4 {
			t.Errorf("%d ports of machines, there are 4", m.Known)
		}
		got := []string{fmt.Sprintf("%d %d %d %d", m.VMs, m.Ports, m.Hosts, m.Refused)}
		for _, r := range m.Rows {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s/%s/%s %s", r.Host, r.Switch, r.Port, r.Reason)))
		}
		if text := strings.Join(got, "; "); text != want {
			t.Errorf("%s without %s of %s:\n%s\nwant\n%s", selects, exclude, tenant, text, want)
		}
	}
	f(`vm like "web-%"`, "", "", 9, "3 3 2 0; h1/br/p-web-1; h1/br/p-web-2; h2/br/p-web-3")
	f(`vm like "web-%"`, `vm = "web-1"`, "", 9, "2 2 2 0; h1/br/p-web-2; h2/br/p-web-3")
	f(`vm like "web-%"`, "", "blue", 9, "2 2 2 1; h1/br/p-web-2 foreign-tenant; h1/br/p-web-1; h2/br/p-web-3")
	f(`vm like "web-%"`, "", "blue", 2, "2 2 2 1; h1/br/p-web-2 foreign-tenant; h1/br/p-web-1")
	f(`vm like "web-%"`, "", "blue", 1, "2 2 2 1; h1/br/p-web-2 foreign-tenant")
	f(`port = "p-br"`, "", "", 9, "0 0 0 1; h1/br/p-br kernel-port")
	f(`host = "h2"`, "", "", 9, "2 2 1 0; h2/br/p-db-1; h2/br/p-web-3")
	f(`vm = "nobody"`, "", "", 9, "0 0 0 0")
	f("", "", "", 9, "0 0 0 0")
	h2.Lost = errors.New("gone")
	f(`host = "h2"`, "", "", 9, "2 2 1 0; h2/br/p-db-1; h2/br/p-web-3") // what was known last
}
