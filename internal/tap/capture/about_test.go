package capture

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"

	"crosstap/internal/frame"
)

// TestLeftOut has blocks beside frames that are damaged, or more than is kept, counted, and frames behind them read.
func TestLeftOut(t *testing.T) {
	block := func(kind uint32, body string) string {
		le := binary.LittleEndian
		b := le.AppendUint32(le.AppendUint32(nil, kind), uint32(len(body)+12))
		return string(le.AppendUint32(append(b, body...), uint32(len(body)+12)))
	}
	const words = "\x00\x00\x00\x00"
	start := block(blockSection, "\x4d\x3c\x2b\x1a\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff") + block(blockInterface, "\x01\x00\x00\x00"+words)
	packet := block(blockEnhanced, strings.Repeat(words, 3)+"\x04\x00\x00\x00\x04\x00\x00\x00data")
	f := func(blocks string, kept, left int) {
		t.Helper()
		src, err := NewFile(FileConfig{Path: "test", Reader: strings.NewReader(start + blocks + packet)})
		if err != nil {
			t.Fatal(err)
		}
		frames := 0
		if err := src.Each(context.Background(), func(b frame.Batch) bool { frames += len(b.Frames); b.Release(); return true }); err != nil || frames != 1 {
			t.Errorf("%d frames, %v", frames, err)
		}
		if n := len(src.Beside(0)); n != kept || src.LeftOut() != left {
			t.Errorf("%d kept, %d left out, want %d and %d", n, src.LeftOut(), kept, left)
		}
	}
	f(block(blockSecrets, "KSLT\x04\x00\x00\x00abcd"), 1, 0)
	f(block(blockSecrets, "KSLT\x05\x00\x00\x00abcd"), 0, 1)
	f(block(blockSecrets, "KSLT\xff\xff\xff\xff"), 0, 1)
	f(block(blockSecrets, "KSLT"), 0, 1)
	f(block(blockNames, "\x01\x00\x06\x00\x0a\x00\x00\x01a\x00\x00\x00"+words), 1, 0)
	f(block(blockNames, "\x01\x00\x06\x00\x0a\x00\x00\x01a\x00\x00\x00"), 0, 1) // without its end
	f(block(blockNames, "\x01\x00\xff\xff\x0a\x00\x00\x01"), 0, 1)
	f(block(blockNames, ""), 0, 1)
	f(block(blockStatistics, words)+block(blockStatistics, "\x07\x00\x00\x00"+words+words), 0, 0)
	f(block(blockSecrets, "KSLT\x00\x00\x10\x00"+strings.Repeat("k", 1<<20)), 0, 1)
	f(strings.Repeat(block(blockSecrets, "KSLT\x00\x00\x08\x00"+strings.Repeat("k", 1<<19)), 33), 31, 2)
}
