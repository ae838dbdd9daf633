package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDeb makes a package, looks into it with dpkg's own tools, installs it into a folder of the test's own, and takes it away again.
func TestDeb(t *testing.T) {
	for _, tool := range []string{"dpkg", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "agent")
	must(t, os.WriteFile(binary, []byte("#!/bin/sh\necho agent \"$@\"\n"), 0o755))
	j := job{root: "../..", binary: binary, version: "1.2.3~rc1", arch: "amd64", format: "deb", out: dir}
	path, err := j.run()
	must(t, err)
	if filepath.Base(path) != "crosstap-agent_1.2.3~rc1_amd64.deb" {
		t.Error(path)
	}
	again, err := os.ReadFile(path)
	must(t, err)
	_, err = j.run()
	must(t, err)
	if b, _ := os.ReadFile(path); string(b) != string(again) {
		t.Error("the same input makes another package")
	}
	list := run(t, "dpkg-deb", "-c", path)
	for _, want := range []string{"-rwxr-xr-x root/root", "./usr/bin/crosstap-agent", "./lib/systemd/system/crosstap-agent.service", "./etc/crosstap/agent.env"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %s in\n%s", want, list)
		}
	}
	if info := run(t, "dpkg-deb", "-f", path, "Package", "Version", "Architecture"); info != "Package: crosstap-agent\nVersion: 1.2.3~rc1\nArchitecture: amd64\n" {
		t.Error(info)
	}
	if os.Geteuid() != 0 {
		return
	}
	install(t, filepath.Join(dir, "root"), path)
}

func install(t *testing.T, root, path string) {
	t.Helper()
	admin := filepath.Join(root, "var/lib/dpkg")
	for _, d := range []string{"updates", "info", "triggers"} {
		must(t, os.MkdirAll(filepath.Join(admin, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(admin, "status"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(admin, "available"), nil, 0o644))
	// The scripts run here, and know from DPKG_ROOT that it is not for this system.
	dpkg := func(args ...string) string {
		return run(t, "dpkg", append([]string{"--root=" + root, "--force-script-chrootless", "--force-architecture", "--force-depends", "--log=/dev/null"}, args...)...)
	}
	dpkg("-i", path)
	if out := run(t, filepath.Join(root, "usr/bin/crosstap-agent"), "x"); out != "agent x\n" {
		t.Error(out)
	}
	env := filepath.Join(root, "etc/crosstap/agent.env")
	must(t, os.WriteFile(env, []byte("CROSSTAP_AGENT_SERVER=https://mine\n"), 0o644))
	dpkg("-i", path)
	if b, _ := os.ReadFile(env); string(b) != "CROSSTAP_AGENT_SERVER=https://mine\n" {
		t.Errorf("an upgrade has overwritten the settings: %s", b)
	}
	dpkg("-r", "crosstap-agent")
	if _, err := os.Stat(filepath.Join(root, "usr/bin/crosstap-agent")); err == nil {
		t.Error("the program is still there")
	}
	if _, err := os.Stat(env); err != nil {
		t.Error("the settings are gone before they were purged")
	}
	dpkg("--purge", "crosstap-agent")
	if left, _ := filepath.Glob(filepath.Join(root, "etc/crosstap/*")); len(left) > 0 {
		t.Error(left)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
