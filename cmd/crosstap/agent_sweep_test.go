package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/testkit"
)

// TestUnit has the package's unit call commands that there are.
func TestUnit(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(testkit.ModuleDir(t), "packaging", "crosstap-agent.service"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(b)) {
		key, command, _ := strings.Cut(strings.TrimSpace(line), "=")
		if !strings.HasPrefix(key, "Exec") {
			continue
		}
		words := strings.Fields(command)
		c, rest, err := newRoot().Find(words[1:])
		if err != nil || len(rest) > 0 || !strings.HasSuffix(words[0], "/usr/bin/crosstap-agent") {
			t.Errorf("%s: %v, %v", line, rest, err)
			continue
		}
		got = append(got, key+" "+c.CommandPath())
	}
	if want := "ExecStart crosstap agent, ExecStopPost crosstap agent sweep"; strings.Join(got, ", ") != want {
		t.Errorf("%s, want %s", strings.Join(got, ", "), want)
	}
}
