package kernel

import (
	"os/exec"
	"strings"
	"testing"
)

// A filter whose process is gone is an orphan; one whose process lives is none, nor one of which that cannot be said.
func TestOrphan(t *testing.T) {
	c := exec.Command("sleep", "1000")
	must(t, c.Start())
	child := owner(c.Process.Pid)
	f := func(name string, want bool) {
		t.Helper()
		if orphan(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
	f("crosstap:q "+self(), false)
	f("crosstap "+child, false)
	_ = c.Process.Kill()
	_ = c.Wait()
	f("crosstap "+child, true)
	f("crosstap:q "+child, true)
	f("crosstap "+strings.Replace(self(), "start=", "start=1", 1), true) // another process got the number
	f("crosstap "+strings.Replace(child, "in=", "in=x", 1), false)
	f("crosstap:inline "+child, false)
	f("crosstap", false)
	f("crosstap pid=1", false)
	f("theirs "+child, false)
}
