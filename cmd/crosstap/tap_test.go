package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/testkit"

	"github.com/spf13/cobra"
)

// pcapHeader is a capture file without frames.
const pcapHeader = "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00"

// TestTapExitCodes runs the command in this process. What goes to the terminal is not looked at here.
func TestTapExitCodes(t *testing.T) {
	cut := filepath.Join(t.TempDir(), "cut.pcap")
	if err := os.WriteFile(cut, []byte(pcapHeader+"\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(t.TempDir(), "whole.pcap")
	if err := os.WriteFile(whole, []byte(pcapHeader), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(want int, args ...string) {
		t.Helper()
		if got := run(append([]string{"tap"}, args...)); got != want {
			t.Errorf("tap %s: exit code %d, want %d", strings.Join(args, " "), got, want)
		}
	}
	f(exitOK, "-r", whole, "--to", "null:")
	f(exitOK, "-r", whole, "--to", "null:", "--vxlan-port", "4789", "--vxlan-port", "8472", "--ring", "4MiB", "--role", "vnic")
	f(exitOK, "-r", whole, "--to", "null:", "--key", "both", "--biflow", "--workers", "2")
	f(exitUsage, "-r", whole, "--to", "null:", "--key", "middle")
	f(exitUsage, "-r", whole, "--to", "null:", "--workers", "-1")
	f(exitFinding, "-r", cut, "--to", "null:")
	f(exitUsage, "-r", filepath.Join(t.TempDir(), "none"), "--to", "null:")
	f(exitUsage, "--to", "null:")
	f(exitUsage, "-r", whole)
	f(exitUsage, "-r", whole, "--to", "carrier-pigeon:")
	f(exitUsage, "-r", whole, "--to", "null:", "--idle", "1ns")
	f(exitUsage, "-r", whole, "--to", "null:", "--ring", "many")
	f(exitUsage, "-r", whole, "--to", "null:", "--role", "spy")
	f(exitUsage, "-r", whole, "--to", "null:", "--vxlan-port", "70000")
	f(exitUsage, "-r", whole, "--to", "null:", "surplus")
	f(exitOK, "-r", whole, "--to", "pcapng:"+whole+".zst", "-f", "tcp port 443", "--groom", "slice=l4+64", "--no-progress")
	f(exitUsage, "-r", whole, "--to", "null:frames", "-f", "tcp prot 443")
	f(exitUsage, "-r", whole, "--to", "null:frames", "--groom", "dedupe")
	f(exitUsage, "-r", whole, "--to", "pcapng:"+whole)
	f(exitUsage, "-r", whole, "--to", "pcapng:"+filepath.Join(whole, "x"))
	f(exitUsage, "-i", "lo", "--ring", "1KiB", "--to", "null:")
	testkit.Root(t)
	f(exitUsage, "-i", "no-such-one", "--to", "null:")
}

// TestAlone has commands that are made without the others be the same ones.
func TestAlone(t *testing.T) {
	text := func(root *cobra.Command, name string) string {
		c, _, err := root.Find([]string{name})
		if err != nil || c == root {
			t.Fatalf("%s: %v", name, err)
		}
		return c.Long + c.UsageString()
	}
	all := newRoot()
	for name := range alone() {
		root := newRoot(name, "-x")
		if got, want := text(root, name), text(all, name); got != want || len(root.Commands()) != 1 {
			t.Errorf("%s alone, of %d commands: %.300s\nwith all: %.300s", name, len(root.Commands()), got, want)
		}
	}
	if n := len(newRoot("tapp").Commands()); n < 10 {
		t.Errorf("%d commands to guess from", n)
	}
}

func TestByteSize(t *testing.T) {
	f := func(in string, bytes int64, back string) {
		t.Helper()
		var b byteSize
		if err := b.Set(in); err != nil || int64(b) != bytes || b.String() != back {
			t.Errorf("%s: %d, %s, %v", in, b, b.String(), err)
		}
	}
	f("32MiB", 32<<20, "32MiB")
	f("1GiB", 1<<30, "1GiB")
	f("1536KiB", 1536<<10, "1536KiB")
	f("4096", 4096, "4KiB")
	f("100 B", 100, "100B")
	for _, s := range []string{"", "x", "-1MiB", "99999999GiB", "1MB"} {
		if err := new(byteSize).Set(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// TestTapProcess runs the program itself: a live capture that SIGINT ends with a summary and exit code 0, and one
// without the right to capture.
func TestTapProcess(t *testing.T) {
	testkit.Root(t)
	binary := filepath.Join(t.TempDir(), "crosstap")
	if out, err := exec.Command("go", "build", "-tags", "agent", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := errors.Join(os.Chmod(filepath.Dir(binary), 0o755), os.Chmod(filepath.Dir(filepath.Dir(binary)), 0o755)); err != nil {
		t.Fatal(err)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(t.TempDir(), "notify")})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	f := func(signal bool, code int, want string, cmd *exec.Cmd) {
		t.Helper()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify.LocalAddr().String())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if signal {
			untilReady(t, notify)
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, want %d\n%s", cmd, got, code, stderr.String())
		}
	}
	f(true, exitOK, "crosstap: tap: ", exec.Command(binary, "tap", "-i", "lo", "--to", "null:"))
	f(false, exitUsage, `interface "nope": there is none of that name; there are: lo`, exec.Command(binary, "tap", "-i", "nope", "--to", "null:"))
	nobody := func(args ...string) *exec.Cmd {
		cmd := exec.Command(binary, append([]string{"tap"}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd
	}
	dir := filepath.Dir(binary)
	whole, secret := filepath.Join(dir, "whole.pcap"), filepath.Join(dir, "secret.pcap")
	if err := errors.Join(os.WriteFile(whole, []byte(pcapHeader), 0o644), os.WriteFile(secret, []byte(pcapHeader), 0o600)); err != nil {
		t.Fatal(err)
	}
	f(false, exitDenied, "capturing needs CAP_NET_RAW", nobody("-i", "lo", "--to", "null:"))
	f(false, exitDenied, "GRE and ERSPAN need CAP_NET_RAW", nobody("--listen", "erspan://", "--to", "null:"))
	f(false, exitDenied, "permission denied: run as a user who may read it, or pass it on: sudo cat FILE | crosstap tap -r -", nobody("-r", secret, "--to", "null:"))
	f(false, exitDenied, "permission denied: name a file in a folder that this user may write to, or - for standard output", nobody("-r", whole, "--to", "pcapng:"+dir+"/new.pcapng"))
	f(false, exitDenied, "permission denied: name a file in a folder that this user may write to", nobody("-r", whole, "--to", "pcapng:"+dir+"/new.pcapng?files=3&size=1MiB"))
	f(false, exitUsage, "no such file or directory: make its folder first", nobody("-r", whole, "--to", "pcap:"+dir+"/no/new.pcap"))
	f(false, exitUsage, "is a directory: name a file in it", exec.Command(binary, "tap", "-r", whole, "--to", "pcap:"+dir))
}

// untilReady waits until the program says that it is ready, as to a service manager (sd_notify).
func untilReady(t *testing.T, notify *net.UnixConn) {
	t.Helper()
	buf := make([]byte, 100)
	_ = notify.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := notify.Read(buf); err != nil || string(buf[:n]) != "READY=1" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
}

// tapOutput runs the tap command and returns what it prints to standard error, and its error.
func tapOutput(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var b bytes.Buffer
	cmd := newTap()
	cmd.SetErr(&b)
	cmd.SetOut(&b)
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(t.Context())
	return b.String(), err
}

func TestTapSaysWhereTheMistakeIs(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		_, err := tapOutput(t, append(args, "-r", "x", "--to", "null:frames")...)
		if text := fmt.Sprint(err); text != want {
			t.Errorf("\n%s\nwant\n%s", text, want)
		}
	}
	f("filter: column 5: \"prot\" is not expected; did you mean \"port\"?\n  tcp prot 443\n      ^^^^", "-f", "tcp prot 443")
	f("groom: column 8: \"dedupe\" is no step; did you mean dedup?\n  repair,dedupe\n         ^", "--groom", "repair,dedupe")
	yaml := filepath.Join(t.TempDir(), "steps.yaml")
	if err := os.WriteFile(yaml, []byte("slice: l4+64\ndedupe: 50ms\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tapOutput(t, "-r", "x", "--to", "null:frames", "--groom", "@"+yaml); err == nil || !strings.Contains(err.Error(), yaml+": groom: line 2") {
		t.Error(err)
	}
}

// TestTapKnowsWhatWasMeant has destinations that are not written as they should be.
func TestTapKnowsWhatWasMeant(t *testing.T) {
	f := func(to, want string) {
		t.Helper()
		_, err := tapOutput(t, "-r", "x", "--to", to)
		if text := fmt.Sprint(err); text != want {
			t.Errorf("%s:\n%s\nwant\n%s", to, text, want)
		}
	}
	words := func(want string, args ...string) {
		t.Helper()
		if _, err := tapOutput(t, args...); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
	words(`tap: "tcp": a filter is given with -f 'tcp port 80'`, "-i", "lo", "--to", "null:", "tcp", "port", "80")
	words(`tap: "tap_test.go": a capture file is read with -r tap_test.go`, "--to", "null:", "tap_test.go")
	filterWords := func(want string, args ...string) {
		t.Helper()
		cmd := newFilter()
		cmd.SetArgs(args)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if err := cmd.Execute(); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
	filterWords(`filter: "tcp" is no command of it; to see what becomes of an expression: crosstap filter explain 'tcp port 80'`, "tcp", "port", "80")
	filterWords(`unknown command "explian"; did you mean "explain"?`, "explian")
	f("out.pcapng", `tap: destination "out.pcapng": did you mean pcapng:out.pcapng?`)
	f("out.pcap.gz", `tap: destination "out.pcap.gz": did you mean pcap:out.pcap.gz?`)
	f("/tmp/out", `tap: destination "/tmp/out": did you mean pcapng:/tmp/out?`)
	f("-", `tap: destination "-": did you mean pcapng:-?`)
	f("null", `tap: destination "null": did you mean null:?`)
	f("flow:-", `tap: destination "flow:-": did you mean flows:-?`)
	f("pcapgn:x", `tap: destination "pcapgn:x": did you mean pcapng:?`)
	f("vlxan://h", `tap: destination "vlxan://h": did you mean vxlan://?`)
	f("tls://h:1?cert=x", `tap: deliver: tls://h:1?cert=x: cert and key belong together: one of them is missing`)
	f("pcapng:x?sise=1MiB", `tap: deliver: pcapng:x?sise=1MiB: option "sise" is not known; did you mean "size"?`)
	f("pcapng:x?size=1", `tap: deliver: pcapng:x?size=1: size=1: want 64KiB to 1024TiB`)
	f("vxlan://h?vni=16777216", `tap: deliver: vxlan://h?vni=16777216: vni=16777216: want 0 to 16777215`)
	f("erspan2://h", `tap: deliver: erspan2://h: session 0: want session=1 to 1023`)
	f("gre://h?groom=slice=l9", `tap: destination gre://h?groom=slice=l9: groom=slice=l9: groom: column 7: "l9" is no place in a frame; give a number of bytes, or count from l2, l3, l4 or l7, with inner- in front for the innermost packet: 128, l4+64, inner-l7`)
}

func TestTapSummary(t *testing.T) {
	in := testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap")
	out, err := tapOutput(t, "-r", in, "-f", "udp port 4789", "--groom", "slice=l4+64", "--to", "null:frames", "--progress")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"crosstap: tap: 1684 frames in ", " frames to null:frames; filter: ", "crosstap: tap: filter: in the tap\n", "crosstap: tap: ledger: 1684 frames read = "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestProgressText(t *testing.T) {
	f := func(read, size int64, want string) {
		t.Helper()
		if got := progressText(1000, read, size, 2.5e6); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	f(1<<20, 0, "1.0 MiB, 1000 frames, 2.50 million/s")
	f(1<<20, 4<<20, " 25%  1.0 of 4.0 MiB, 1000 frames, 2.50 million/s")
	f(5<<20, 4<<20, "100%  5.0 of 4.0 MiB, 1000 frames, 2.50 million/s") // the file grows
}
