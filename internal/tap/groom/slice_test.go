package groom_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// TestSliceIsEditcap cuts the captures of the corpus to lengths, as editcap -s does.
func TestSliceIsEditcap(t *testing.T) {
	editcap := testkit.Tool(t, "editcap")
	dir, n := t.TempDir(), 0
	corpus(t, func(name string, frames []frame.Frame) {
		if len(frames) < 20 || frames[0].Link != frame.LinkEthernet || mixed(frames) {
			return
		}
		if n++; n > 12 {
			return
		}
		for _, size := range []int{1, 60, 96, 1500} {
			in, out := filepath.Join(dir, "in.pcap"), filepath.Join(dir, "out.pcap")
			save(t, in, frame.LinkEthernet, frames)
			if b, err := exec.Command(editcap, "-F", "nsecpcap", "-s", strconv.Itoa(size), in, out).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			equal(t, name, load(t, out), apply(t, pipeline(t, "slice="+strconv.Itoa(size)), frames)[0])
		}
	})
	if n < 10 {
		t.Errorf("only %d captures were cut", n)
	}
}

func mixed(frames []frame.Frame) bool {
	for _, f := range frames {
		if f.Link != frames[0].Link {
			return true
		}
	}
	return false
}

// equal compares frames by bytes, length and time.
func equal(t *testing.T, name string, want, got []frame.Frame) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: %d frames, want %d", name, len(got), len(want))
		return
	}
	for i := range want {
		if !bytes.Equal(want[i].Data, got[i].Data) || want[i].OrigLen != got[i].OrigLen || want[i].TimeNS != got[i].TimeNS {
			t.Errorf("%s: frame %d is %d of %d bytes, want %d of %d:\n%x\n%x", name, i+1, len(got[i].Data), got[i].OrigLen, len(want[i].Data), want[i].OrigLen, got[i].Data, want[i].Data)
			return
		}
	}
}
