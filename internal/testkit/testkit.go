// Package testkit says what a test needs from the machine. What is missing skips the test with
// its reason; with CI=true a skip is a failure.
package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// packages names the Debian package of each tool that the tests know.
var packages = map[string]string{
	"tshark": "tshark", "editcap": "wireshark-common", "capinfos": "wireshark-common", "mergecap": "wireshark-common",
	"tcpdump": "tcpdump", "tcprewrite": "tcpreplay", "nfcapd": "nfdump", "sfcapd": "nfdump-sflow", "nfacctd": "pmacct", "sfacctd": "pmacct", "nfdump": "nfdump", "nfpcapd": "nfdump", "softflowd": "softflowd",
	"ethtool": "ethtool", "protoc": "protobuf-compiler", "ip": "iproute2", "ping": "iputils-ping", "tc": "iproute2", "chromium": "chromium", "ovs-vsctl": "openvswitch-switch",
	"libvirtd": "libvirt-daemon", "virt-ssh-helper": "libvirt-daemon", "nc": "netcat-openbsd",
	"ovsdb-server": "openvswitch-switch", "ovsdb-tool": "openvswitch-switch", "ovs-vswitchd": "openvswitch-switch",
}

// Missing ends the test as skipped, or as failed with CI=true.
func Missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("must not be skipped with CI=true: %s", reason)
	}
	t.Skip(reason)
}

// Tool returns the path of a program that the test compares with.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		pkg := packages[name]
		if pkg == "" {
			pkg = name
		}
		Missing(t, name+" is not installed (apt-get install "+pkg+")")
	}
	return path
}

// Root ends the test unless it runs as root on Linux.
func Root(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		Missing(t, "needs root on Linux (network namespaces)")
	}
}

// CorpusDir returns the folder of captures made by others: CROSSTAP_CORPUS, or shared/corpus
// beside the checkout.
func CorpusDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("CROSSTAP_CORPUS")
	if dir == "" {
		dir = filepath.Join(filepath.Dir(ModuleDir(t)), "shared", "corpus")
	}
	if _, err := os.Stat(dir); err != nil {
		Missing(t, "the corpus is not there (CROSSTAP_CORPUS): "+err.Error())
	}
	return dir
}

// Corpus returns the path of one file or folder of the corpus.
func Corpus(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(CorpusDir(t), filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("corpus: %v", err)
	}
	return path
}

// ModuleDir returns the root of the checkout.
func ModuleDir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && string(mod[:min(len(mod), 15)]) == "module crosstap" {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("testkit: not inside the crosstap checkout")
		}
		dir = parent
	}
}
