//go:build !agent

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// command runs one command line, and returns what it writes and its exit code.
func command(t *testing.T, args ...string) (string, int) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	code := exitCode(err)
	if err != nil {
		out.WriteString(err.Error())
	}
	return out.String(), code
}

// The whole way of a policy over the command line, on a real Open vSwitch and without a server: plan, diff, apply, again, pause, history,
// rollback, delete.
func TestPoliciesWithoutServer(t *testing.T) {
	host := testns.New(t)
	db := ovstest.New(t, host.Do)
	db.Switch()
	db.Vsctl("add-br br-int -- set bridge br-int datapath_type=netdev")
	for _, vm := range []string{"web-1", "db-1", "ids"} {
		port := "t" + vm
		db.Vsctl(fmt.Sprintf("add-port br-int %s -- set interface %s type=internal external_ids:iface-id=%s external_ids:vm-uuid=%s", port, port, vm, vm))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "taps.yaml")
	policies := `apiVersion: crosstap/v1
kind: Platform
metadata: {name: kvm-1}
spec: {kind: ovs, address: "unix:` + db.Socket() + `"}
---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: ids}
spec: {port: {vm: ids}}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: shop}
spec:
  select: 'vm in (web-1, db-1)'
  destinations: [ids]
`
	if err := os.WriteFile(file, []byte(policies), 0o600); err != nil {
		t.Fatal(err)
	}
	state := "--state=" + filepath.Join(dir, "control.db")
	f := func(code int, want string, args ...string) {
		t.Helper()
		out, got := command(t, append(args, state)...)
		if got != code || !strings.Contains(out, want) {
			t.Errorf("crosstap %s: exit code %d\n%s\nwant %d and %s", strings.Join(args, " "), got, out, code, want)
		}
	}
	mirrors := func(want string) {
		t.Helper()
		if got := db.Vsctl("--no-headings --columns=name list mirror"); strings.Trim(got, `"`) != want {
			t.Errorf("mirrors %s, want %s", got, want)
		}
	}
	f(exitOK, "mirror tdb-1, tweb-1 > ids", "plan", "-f", file)
	f(exitOK, "copies: each packet once", "plan", "-f", file)
	f(exitFinding, "+ tap shop", "diff", "-f", file)
	mirrors("")
	f(exitOK, "change 1: done", "apply", "-f", file, "--why", "INC-1")
	out, _ := command(t, "plan", state)
	name := strings.Fields(db.Vsctl("--no-headings --columns=name list mirror"))
	if len(name) != 1 || !strings.Contains(name[0], "crosstap-shop/br-int.") || !strings.Contains(out, "nothing to do") {
		t.Errorf("mirrors %q\n%s", name, out)
	}
	f(exitOK, "nothing to do", "apply", "-f", file)
	f(exitOK, "", "diff", "-f", file)
	f(exitOK, "tweb-1  shop", "match", "vm = web-1", "--columns", "port,taps")
	f(exitOK, "mirror-port", "match", "vm in (web-1, ids)")
	f(exitFinding, `no port that is known has vm = "wbe-1"; did you mean "web-1"?`, "match", "vm = wbe-1")
	f(exitOK, "change 2: done", "taps", "pause", "shop")
	mirrors("")
	f(exitOK, "change 3: done", "taps", "resume", "--all")
	f(exitOK, "change 4: done", "delete", "tap", "shop")
	mirrors("")
	f(exitOK, "INC-1", "history")
	f(exitOK, "change 5: done", "rollback", "4")
	f(exitRefused, "destination-tapped", "apply", "-f", refused(t, dir))
	f(exitOK, "done", "taps", "stop", "--all")
	mirrors("")
	if left := db.Vsctl("list-br") + db.Vsctl("list-ports br-int"); strings.Contains(left, "ct") {
		t.Errorf("left: %s", left)
	}
	f(exitUsage, "did you mean \"select\"?", "plan", "-f", mistaken(t, dir))
}

// The same through a server, which sets right what others change.
func TestPoliciesOfServer(t *testing.T) {
	host := testns.New(t)
	db := ovstest.New(t, host.Do)
	db.Switch()
	db.Vsctl("add-br br-int -- set bridge br-int datapath_type=netdev")
	for _, vm := range []string{"web-1", "ids"} {
		db.Vsctl(fmt.Sprintf("add-port br-int t%s -- set interface t%s type=internal external_ids:iface-id=%s external_ids:vm-uuid=%s", vm, vm, vm, vm))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "taps.yaml")
	text := "apiVersion: crosstap/v1\nkind: Platform\nmetadata: {name: kvm-1}\nspec: {kind: ovs, host: kvm-1, address: \"unix:" + db.Socket() + "\"}\n---\n" +
		"apiVersion: crosstap/v1\nkind: Destination\nmetadata: {name: ids}\nspec: {port: {vm: ids}}\n---\n" +
		"apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: web}\nspec: {select: 'vm = web-1', destinations: [ids]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", testkit.Port(t))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		root := newRoot()
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		root.SetArgs([]string{"serve", "--data", filepath.Join(dir, "data"), "--http", addr, "--flows", "127.0.0.1:0"})
		ended <- root.ExecuteContext(ctx)
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	eventually := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not %s after a minute", what)
			}
		}
	}
	server := "--server=http://" + addr
	eventually("listening", func() bool { c, err := net.Dial("tcp", addr); return err == nil && c.Close() == nil })
	f := func(code int, want string, args ...string) {
		t.Helper()
		out, got := command(t, append(args, server)...)
		if got != code || !strings.Contains(out, want) {
			t.Errorf("crosstap %s: exit code %d\n%s\nwant %d and %s", strings.Join(args, " "), got, out, code, want)
		}
	}
	mirrors := func() string { return strings.Trim(db.Vsctl("--no-headings --columns=name list mirror"), `"`) }
	f(exitOK, "mirror tweb-1 > ids", "plan", "-f", file)
	f(exitOK, "done", "apply", "-f", file)
	const web = "crosstap-web/br-int.kvm-1.ids"
	if got := mirrors(); got != web {
		t.Errorf("mirrors %q", got)
	}
	f(exitOK, "active", "get", "taps")
	f(exitOK, "select: 'vm = web-1'", "describe", "tap", "web")
	f(exitOK, "ids", "get", "destinations")
	f(exitOK, "Taps       web\n", "describe", "vm", "web-1")
	f(exitOK, "No flow of it was seen in", "describe", "vm", "web-1")
	db.Vsctl("-- --id=@m get mirror " + web + " -- remove bridge br-int mirrors @m")
	eventually("set right", func() bool { return mirrors() == web })
	f(exitOK, "done", "taps", "stop", "--all")
	if got := mirrors(); got != "" {
		t.Errorf("mirrors %q", got)
	}
}

func refused(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "refused.yaml")
	text := "apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: tool}\nspec: {select: {vms: [ids]}, destinations: [ids]}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mistaken(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "mistaken.yaml")
	text := "apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: tool}\nspec: {selct: {vms: [ids]}, destinations: [ids]}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
