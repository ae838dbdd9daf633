package dissect_test

import (
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// captured is one frame of the corpus.
type captured struct {
	file string // below the corpus' folder
	n    int    // number in the file, from 1
	link frame.LinkType
	data []byte
	orig int
}

var corpus = sync.OnceValues(func() ([]captured, error) { return readCorpus(corpusDir) })
var corpusDir string

// corpusFrames returns every frame of a supported link type.
func corpusFrames(t testing.TB) []captured {
	t.Helper()
	corpusDir = testkit.CorpusDir(t)
	frames, err := corpus()
	if err != nil {
		t.Fatal(err)
	}
	if len(frames) < 9000 {
		t.Fatalf("corpus: %d frames of supported link types, want at least 9000", len(frames))
	}
	return frames
}

func readCorpus(dir string) ([]captured, error) {
	var all []captured
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || (filepath.Ext(path) != ".pcap" && filepath.Ext(path) != ".pcapng") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		n := 0
		add := func(link int, data []byte, orig int) {
			n++
			if supported(link) {
				all = append(all, captured{name, n, linkType(link), data, max(orig, len(data))})
			}
		}
		readCapture(b, add)
		return err
	})
	return all, err
}

// linkType maps numbers that captures also use for the same thing: 12 and 14 are raw IP on some systems.
func linkType(n int) frame.LinkType {
	if n == 12 || n == 14 {
		return frame.LinkRaw
	}
	return frame.LinkType(n)
}

func supported(link int) bool {
	switch linkType(link) {
	case frame.LinkNull, frame.LinkEthernet, frame.LinkRaw, frame.LinkLoop, frame.LinkSLL, frame.LinkIPv4, frame.LinkIPv6, frame.LinkSLL2:
		return true
	}
	return false
}

// readCapture reads a pcap or pcapng file as far as it is whole.
func readCapture(b []byte, add func(link int, data []byte, orig int)) {
	if len(b) < 24 {
		return
	}
	switch magic := binary.LittleEndian.Uint32(b); magic {
	case 0xa1b2c3d4, 0xa1b23c4d:
		readPcap(b, binary.LittleEndian, add)
	case 0xd4c3b2a1, 0x4d3cb2a1:
		readPcap(b, binary.BigEndian, add)
	case 0x0a0d0d0a:
		readPcapng(b, add)
	}
}

func readPcap(b []byte, order binary.ByteOrder, add func(int, []byte, int)) {
	link := int(order.Uint32(b[20:]) & 0xffff)
	for b = b[24:]; len(b) >= 16; {
		n, orig := int(order.Uint32(b[8:])), int(order.Uint32(b[12:]))
		if n > len(b)-16 {
			return
		}
		add(link, b[16:16+n], orig)
		b = b[16+n:]
	}
}

func readPcapng(b []byte, add func(int, []byte, int)) {
	var order binary.ByteOrder = binary.LittleEndian
	var links []int
	for len(b) >= 12 {
		if binary.BigEndian.Uint32(b) == 0x0a0d0d0a {
			links, order = nil, binary.LittleEndian
			if binary.BigEndian.Uint32(b[8:]) == 0x1a2b3c4d {
				order = binary.BigEndian
			}
		}
		kind, n := order.Uint32(b), int(order.Uint32(b[4:]))
		if n < 12 || n > len(b) {
			return
		}
		body := b[8 : n-4]
		b = b[n:]
		switch {
		case kind == 1 && len(body) >= 8:
			links = append(links, int(order.Uint16(body)))
		case kind == 6 && len(body) >= 20:
			at, size := int(order.Uint32(body)), int(order.Uint32(body[12:]))
			if at < len(links) && size <= len(body)-20 {
				add(links[at], body[20:20+size], int(order.Uint32(body[16:])))
			}
		case kind == 3 && len(body) >= 4 && len(links) > 0:
			orig := int(order.Uint32(body))
			add(links[0], body[4:4+min(orig, len(body)-4)], orig)
		}
	}
}
