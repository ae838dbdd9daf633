package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TsharkOnly makes a folder for WIRESHARK_CONFIG_DIR with which tshark looks at these protocols and at nothing above them, so that none of its
// heuristics finds what no port says.
func TsharkOnly(t testing.TB, protocols []string) string {
	t.Helper()
	out, err := exec.Command(Tool(t, "tshark"), "-G", "protocols").Output()
	if err != nil {
		t.Fatalf("tshark -G protocols: %v", err)
	}
	var disabled strings.Builder
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) > 2 && !slices.Contains(protocols, f[2]) {
			disabled.WriteString(f[2] + "\n")
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "disabled_protos"), []byte(disabled.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
