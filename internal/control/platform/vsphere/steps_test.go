package vsphere

import (
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/vsphere/vsim"
)

func TestRemoteMirror(t *testing.T) {
	t.Parallel()
	_, v := simulate(t, vsim.Config{})
	s := read(t, v)
	want := remoteSession(t, s, "web", "DC0_C0_RP0_VM0", "DC0_C0_RP0_VM1")
	want.Slice, want.Sample = 128, 10
	steps := do(t, v, want)
	if len(steps) != 1 || steps[0].Action != platform.Create || steps[0].Phase != platform.PhaseSwitch || steps[0].Before != nil {
		t.Fatalf("steps: %+v", steps)
	}
	if c := steps[0].Commands; len(c) != 1 || !strings.Contains(c[0], "EncapType=") || !strings.Contains(c[0], "192.0.2.9") {
		t.Errorf("commands: %q", c)
	}
	settled(t, v, want)
	s = read(t, v)
	objects := objectsOf(s, kindSession)
	if len(objects) != 1 || objects[0].Mark != want.Mark || objects[0].Name != "crosstap-web-dvs" || objects[0].Remote != "192.0.2.9" || len(objects[0].Sources) != 2 {
		t.Fatalf("objects: %+v", objects)
	}
	for name, value := range map[string]string{"length": "128", "sampling": "10", "encapsulation": "erspan2", "erspan-id": "7", "enabled": "yes", "type": "encapsulatedRemoteMirrorSource"} {
		if objects[0].Raw[name] != value {
			t.Errorf("%s is %q, want %q", name, objects[0].Raw[name], value)
		}
	}
	if err := v.Apply(t.Context(), steps[0]); err != nil {
		t.Errorf("a step that is done: %v", err)
	}
	if err := v.Undo(t.Context(), steps[0]); err != nil {
		t.Errorf("undo: %v", err)
	}
	if err := v.Undo(t.Context(), steps[0]); err != nil {
		t.Errorf("undo again: %v", err)
	}
	if o := objectsOf(read(t, v), kindSession); len(o) != 0 {
		t.Errorf("after undo: %+v", o)
	}
}
