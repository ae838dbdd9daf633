package groom_test

import (
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

// TestStripLeavesSoundFrames takes each header off the frames of the corpus: what was sound stays sound, and what shall go is
// gone.
func TestStripLeavesSoundFrames(t *testing.T) {
	corpus(t, func(name string, frames []frame.Frame) {
		for _, flags := range []string{"strip=all", "strip=all/link=ethernet", "strip=vlan+vntag+etag+mpls", "strip=gre", "strip=vxlan+geneve"} {
			p := pipeline(t, flags)
			for i := range frames {
				was := issues(&frames[i])
				out := apply(t, p, frames[i:i+1])[0]
				if len(out) != 1 {
					t.Fatalf("%s: %s: frame %d: %d frames", name, flags, i+1, len(out))
				}
				is := issues(&out[0])
				if was.Issues&(dissect.Malformed|dissect.Deep) == 0 && is.Issues&dissect.Malformed != 0 {
					t.Errorf("%s: %s: frame %d has become malformed:\n%v\n%v", name, flags, i+1, was.Layers[:was.NLayers], is.Layers[:is.NLayers])
				}
			}
		}
	})
}
