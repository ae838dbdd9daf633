//go:build !agent

package main

import (
	"fmt"
	"testing"

	"crosstap/internal/serve/controlapi"
)

// TestToDelete: platforms of a file stay, as others may use them, and are named.
func TestToDelete(t *testing.T) {
	const head = "apiVersion: crosstap/v1\nkind: %s\nmetadata:\n  name: %s\nspec: %s\n"
	text := fmt.Sprintf(head, "Platform", "kvm-1", "{kind: linux}") + "---\n" + fmt.Sprintf(head, "Destination", "ids", "{url: 'vxlan://10.0.0.9?vni=1'}")
	out, kept, err := toDelete([]controlapi.File{{Name: "x.yaml", Text: text}}, nil)
	if err != nil || len(out) != 1 || out[0].Name != "ids" || fmt.Sprint(kept) != "[kvm-1]" {
		t.Errorf("%+v %v %v", out, kept, err)
	}
	if out, kept, err = toDelete(nil, []string{"platform", "kvm-1"}); err != nil || len(out) != 1 || out[0].Name != "kvm-1" || len(kept) > 0 {
		t.Errorf("%+v %v %v", out, kept, err)
	}
}
