package serve

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/ie"
	"crosstap/internal/serve/api"
)

// unnamed is an IPFIX message exported now: a template with element 1 of enterprise 4242, and a record that has 5 there.
func unnamed() []byte {
	sets := []byte("\x00\x02\x00\x1c\x01\x00\x00\x04\x00\x08\x00\x04\x00\x0c\x00\x04\x00\x02\x00\x04\x80\x01\x00\x02\x00\x00\x10\x92" +
		"\x01\x00\x00\x12\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x00\x00\x07\x00\x05")
	b := binary.BigEndian.AppendUint16(nil, 10)
	b = binary.BigEndian.AppendUint16(b, uint16(16+len(sets)))
	b = binary.BigEndian.AppendUint32(b, uint32(time.Now().Unix()))
	return append(append(b, 0, 0, 0, 0, 0, 0, 0, 1), sets...)
}

// until asks again and again, for a minute at most, until the answer has text.
func until(t *testing.T, url, text string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, body := fetch(t, url)
		if strings.Contains(body, text) {
			return body
		}
		if time.Now().After(end) {
			t.Fatalf("%s: no %s in %s", url, text, body)
		}
	}
}

// A stored record's element without a name becomes readable when its definition is added, and a mistake there leaves what was.
func TestElementsOfStoredRecords(t *testing.T) {
	t.Cleanup(func() { _ = ie.Define(nil) })
	set := testSettings(t)
	file := filepath.Join(t.TempDir(), "elements.csv")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("pen,id,name,type\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	set.Elements = []string{file}
	url, stop := start(t, set)
	defer stop()
	var s api.Status
	if err := json.Unmarshal([]byte(until(t, url+"/api/v1/status", `"network":"udp"`)), &s); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", s.Listeners[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(unnamed()); err != nil {
		t.Fatal(err)
	}
	until(t, url+"/api/v1/flows", `"extra":["4242/1=0x0005"]`)
	until(t, url+"/api/v1/exporters", `"unknown_elements":"4242/1"`)
	write("4242,1,queueDepth,unsigned16\n")
	until(t, url+"/api/v1/flows", `"extra":["queueDepth=5"]`)
	write("4242,1,queueDepth,number\n")
	time.Sleep(watchEvery + watchEvery/2)
	until(t, url+"/api/v1/flows", `"extra":["queueDepth=5"]`)
}
