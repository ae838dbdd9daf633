package testkit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// OneFile is an interval of nfcapd in seconds that does not end while a test runs: its intervals begin at multiples of it.
const OneFile = "1000000000"

// Nfcapd starts nfcapd, or sfcapd, on a UDP port of the loopback address. stop ends it when it has stored what it got, and returns what it said and the flows as
// nfdump reads them; times are printed in the zone of TZ.
func Nfcapd(t testing.TB, name string, port int) (stop func() (said string, flows []map[string]any)) {
	t.Helper()
	tool, nfdump, dir := Tool(t, name), Tool(t, "nfdump"), t.TempDir()
	cmd := exec.Command(tool, "-b", "127.0.0.1", "-p", strconv.Itoa(port), "-w", dir, "-t", OneFile, "-I", "test")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // when the test ends early
	out := bufio.NewReader(stderr)
	for {
		text, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("%s does not start: %v %s", name, err, text)
		}
		if strings.HasPrefix(text, "Startup") {
			break
		}
	}
	return func() (said string, flows []map[string]any) {
		t.Helper()
		Drained(t, cmd.Process.Pid, port)
		_ = cmd.Process.Signal(os.Interrupt)
		rest, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		dump, err := exec.Command(nfdump, "-R", dir, "-o", "json").Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(bytes.TrimSpace(dump), &flows); err != nil {
			t.Fatalf("nfdump: %v: %s", err, dump)
		}
		return string(rest), flows
	}
}
