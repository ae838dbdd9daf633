package vsphere

import (
	"net/url"
	"testing"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/vsphere/vsim"
)

func TestTags(t *testing.T) {
	t.Parallel()
	sim, _ := simulate(t, vsim.Config{VMs: 2})
	v := dialAs(t, sim, sim.User, sim.Password, map[string]string{"tags-every": "1s"})
	w := watch(t, v)
	ctx := t.Context()
	c, f := admin(t, sim)
	client := rest.NewClient(c.Client)
	if err := client.Login(ctx, url.UserPassword(sim.User, sim.Password)); err != nil {
		t.Fatal(err)
	}
	m := tags.NewManager(client)
	category, err := m.CreateCategory(ctx, &tags.Category{Name: "tier", Cardinality: "MULTIPLE"})
	if err != nil {
		t.Fatal(err)
	}
	vm, err := f.VirtualMachine(ctx, vm0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "public"} {
		id, err := m.CreateTag(ctx, &tags.Tag{Name: name, CategoryID: category})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.AttachTag(ctx, id, vm.Reference()); err != nil {
			t.Fatal(err)
		}
	}
	tier := func(s *platform.Snapshot) string { return s.VMs[vmPort(s, vm0).VM].Tags["tier"] }
	if got := tier(read(t, v)); got != "public,web" {
		t.Errorf("tags: %q", got)
	}
	w.until("the tags", func(s *platform.Snapshot) bool { return vmPort(s, vm0) != nil && tier(s) == "public,web" })
	if err := m.DetachTag(ctx, "web", vm.Reference()); err != nil {
		t.Fatal(err)
	}
	w.until("one tag fewer", func(s *platform.Snapshot) bool { return tier(s) == "public" })
}
