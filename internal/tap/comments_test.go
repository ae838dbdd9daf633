package tap_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/testkit"
)

// TestComments has editcap write comments, also two of one frame and more than a batch holds, and tshark find them in what a tap makes of the capture,
// also of frames whose bytes it changes.
func TestComments(t *testing.T) {
	editcap, tshark := testkit.Tool(t, "editcap"), testkit.Tool(t, "tshark")
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		return string(out)
	}
	in, again := filepath.Join(dir, "in.pcapng"), filepath.Join(dir, "again.pcapng")
	args := []string{"-a", "3:second"}
	for n := 1; n <= 600; n += 2 {
		args = append(args, "-a", fmt.Sprintf("%d:frame %d, é", n, n))
	}
	run(editcap, append(args, testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap"), in)...)
	run(editcap, "-a", "3:third", in, again)
	told := func(path string) string {
		t.Helper()
		return run(tshark, "-n", "-r", path, "-T", "fields", "-E", "aggregator=;", "-e", "frame.number", "-e", "frame.comment")
	}
	want := told(again)
	if strings.Count(want, "é") != 300 || !strings.Contains(want, "third") {
		t.Fatalf("editcap wrote %q", want)
	}
	for _, steps := range []string{"", "mask=l7", "slice=l4"} {
		out := copyOf(t, again, "", "", steps, "null:frames")
		if got := told(out); got != want {
			t.Errorf("steps %q: comments of %d frames, want %d", steps, strings.Count(got, "é"), strings.Count(want, "é"))
		}
	}
}
