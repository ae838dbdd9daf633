package libvirt

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURI(t *testing.T) {
	f := func(text string, want *URI, mistake string) {
		t.Helper()
		got, err := ParseURI(text)
		if mistake != "" {
			if err == nil || !strings.Contains(err.Error(), mistake) {
				t.Errorf("%s: %v, want %q", text, err, mistake)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		want.text = text
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(URI{})); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	}
	f("qemu:///system", &URI{Driver: "qemu", Transport: "unix", Path: "/system"}, "")
	f("qemu+unix:///system?mode=legacy", &URI{Driver: "qemu", Transport: "unix", Path: "/system", Mode: "legacy"}, "")
	f("qemu+ssh://root@kvm4:2222/system?keyfile=/k", &URI{Driver: "qemu", Transport: "ssh", User: "root", Host: "kvm4", Port: "2222", Path: "/system", KeyFile: "/k"}, "")
	f("test:///default?socket=/s", &URI{Driver: "test", Transport: "unix", Path: "/default", Socket: "/s"}, "")
	f("qemu+tls://kvm4/system", nil, "reached by ssh alone: qemu+ssh://kvm4/system")
	f("qemu://kvm4/system", nil, "reached by ssh alone")
	f("qemu+ssh:///system", nil, "ssh needs a host")
	f("qemu:///", nil, "the path is missing")
	f("/system", nil, "begin with the driver")
	f("qemu+ssh://a:b@kvm4/system", nil, "no password goes into a URI")
	f("qemu+ssh://-oProxyCommand@kvm4/system", nil, "do not begin with '-'")
	f("qemu:///system?no_verify=1", nil, `parameter "no_verify" is not known`)
	f("qemu:///system?mode=other", nil, "auto, legacy or direct")
}

func TestSSHArgs(t *testing.T) {
	f := func(text string, readOnly bool, want string) {
		t.Helper()
		u, err := ParseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		args := u.ssh("").Args(u.remoteCommand(readOnly))
		got := strings.Join(args[len(args)-4:], " ")
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", text, got, want)
		}
	}
	f("qemu+ssh://kvm4/system?socket=/it's", false, `ServerAliveCountMax=3 -- kvm4 sh -c 'q=; if nc -q 2>&1 | grep -q requires; then q=-q0; fi; exec nc $q -U '\''/it'\''\'\'''\''s'\'''`)
	f("qemu+ssh://kvm4/system?mode=legacy", true, `ServerAliveCountMax=3 -- kvm4 sh -c 'if test -S /run/libvirt/libvirt-sock-ro; then q=; if nc -q 2>&1 | grep -q requires; then q=-q0; fi; exec nc $q -U /run/libvirt/libvirt-sock-ro; fi; echo '\''no socket of libvirt'\'' >&2; exit 1'`)
	f("qemu+ssh://kvm4/system?mode=direct", true, `ServerAliveCountMax=3 -- kvm4 sh -c 'if command -v virt-ssh-helper >/dev/null 2>&1; then exec virt-ssh-helper -r '\''qemu:///system'\''; fi; `+
		`if test -S /run/libvirt/virtqemud-sock-ro; then q=; if nc -q 2>&1 | grep -q requires; then q=-q0; fi; exec nc $q -U /run/libvirt/virtqemud-sock-ro; fi; echo '\''no socket of libvirt'\'' >&2; exit 1'`)
}
