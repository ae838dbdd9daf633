package libvirt

import (
	"testing"

	"crosstap/internal/control/platform/platformtest"
)

// TestContract tries the platform, which tells what there is and copies nothing, on a real daemon.
func TestContract(t *testing.T) {
	_, p := open(t)
	platformtest.Run(t, func(*testing.T) *platformtest.Place { return &platformtest.Place{Platform: p} })
}
