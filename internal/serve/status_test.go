package serve

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"crosstap/internal/serve/api"
)

// A record of a clock that cannot be right is stored at its receipt, and that is told.
func TestRetimed(t *testing.T) {
	url, stop := start(t, testSettings(t))
	defer stop()
	status := func() (s api.Status, body string) {
		_, body = fetch(t, url+"/api/v1/status")
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err)
		}
		return s, body
	}
	s, body := status()
	if s.Flows.Retimed != 0 || strings.Contains(body, "seven days back") {
		t.Errorf("before: %s", body)
	}
	var to string
	for _, l := range s.Listeners {
		if l.Network == "udp" {
			to = l.Address
		}
	}
	conn, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const up, day = uint32(2_000_000_000), uint32(86_400_000) // ms
	d := make([]byte, 24+48)                                  // NetFlow v5 of one record
	binary.BigEndian.PutUint16(d[0:], 5)
	binary.BigEndian.PutUint16(d[2:], 1)
	binary.BigEndian.PutUint32(d[4:], up)
	binary.BigEndian.PutUint32(d[8:], uint32(time.Now().Unix())) //nolint:gosec // until 2106
	r := d[24:]
	copy(r[0:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint32(r[16:], 3)        // packets
	binary.BigEndian.PutUint32(r[20:], 300)      // octets
	binary.BigEndian.PutUint32(r[24:], up-9*day) // first
	binary.BigEndian.PutUint32(r[28:], up-8*day) // last
	r[38] = 17
	if _, err := conn.Write(d); err != nil {
		t.Fatal(err)
	}
	for wait := time.Now().Add(20 * time.Second); s.Flows.Retimed == 0 && time.Now().Before(wait); time.Sleep(20 * time.Millisecond) {
		s, body = status()
	}
	if s.Flows.Retimed != 1 || !strings.Contains(body, "records with times more than seven days back or an hour ahead: 1;") {
		t.Errorf("after: %s", body)
	}
	if _, metrics := fetch(t, url+"/metrics"); !strings.Contains(metrics, "crosstap_flows_retimed_total 1") {
		t.Error("the metric does not tell it")
	}
}
