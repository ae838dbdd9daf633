package export

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/testkit"
)

// TLS to OpenSSL, which wants a certificate of the exporter: tshark reads what OpenSSL decrypted to the same totals.
func TestOpenSSLAndTshark(t *testing.T) {
	openssl := testkit.Tool(t, "openssl")
	f := func(version string) {
		t.Helper()
		dir := t.TempDir()
		certificates(t, dir)
		port := testkit.Port(t)
		stream := filepath.Join(dir, "stream")
		out, err := os.Create(stream)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		var said bytes.Buffer
		server := exec.Command(openssl, "s_server", "-accept", "127.0.0.1:"+strconv.Itoa(port), version, "-quiet", "-naccept", "1", "-CAfile", filepath.Join(dir, "ca.pem"),
			"-cert", filepath.Join(dir, "collector.example.pem"), "-key", filepath.Join(dir, "collector.example.key"), "-Verify", "1", "-verify_return_error")
		server.Stdout, server.Stderr = out, &said
		stdin, err := server.StdinPipe() // held open: at its end the server leaves
		if err == nil {
			err = server.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		defer testkit.Guard(t, server.Process.Pid)()
		defer func() { _ = server.Process.Kill() }() // when the test ends early
		defer time.AfterFunc(3*time.Minute, func() { _ = server.Process.Kill() }).Stop()
		recs, want := mixed(500, true)
		want.Flows = 0
		target := Target{
			Transport: TLS, Host: "127.0.0.1", Port: uint16(port), Domain: 5, Refresh: time.Minute, CA: filepath.Join(dir, "ca.pem"), ServerName: "collector.example",
			Cert: filepath.Join(dir, "exporter.example.pem"), Key: filepath.Join(dir, "exporter.example.key"),
		}
		sendAll(t, target, recs)
		if err := server.Wait(); err != nil {
			t.Errorf("openssl %s: %v: %s", version, err, said.String())
		}
		b, err := os.ReadFile(stream)
		if err != nil {
			t.Fatal(err)
		}
		var segments [][]byte
		for ; len(b) > 0; b = b[min(len(b), 1000):] {
			segments = append(segments, b[:min(len(b), 1000)])
		}
		sums := tsharkSums(t, capture(t, 6, 4739, segments), "cflow.packets", "cflow.octets")
		if diff := cmp.Diff(want, totals{0, sums[0], sums[1]}); diff != "" {
			t.Errorf("openssl %s (-sent +tshark):\n%s\n%s", version, diff, said.String())
		}
	}
	f("-tls1_2")
	f("-tls1_3")
}
