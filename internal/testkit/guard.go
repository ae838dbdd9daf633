package testkit

import (
	"io"
	"os/exec"
	"strconv"
	"testing"
)

// Guard sees to it that a process which the test started ends with the test's process, also when that panics or is killed. Pdeathsig would
// not do: it goes by the thread, and those of namespaces are short-lived. A negative pid is a process group. Call release when the process
// has ended.
func Guard(t testing.TB, pid int) (release func()) {
	t.Helper()
	watch := exec.Command("sh", "-c", `read -r line || kill -KILL "$1" 2>/dev/null`, "guard", strconv.Itoa(pid))
	pipe, err := watch.StdinPipe() // closed by the system when this process ends
	if err == nil {
		err = watch.Start()
	}
	if err != nil {
		t.Fatalf("testkit: guard: %v", err)
	}
	return func() {
		_, _ = io.WriteString(pipe, "\n")
		_ = watch.Wait()
	}
}
