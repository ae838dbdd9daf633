// Package capture is the source end of the tap line: live interfaces through a memory-mapped
// packet ring, and capture files. Frames leave in batches; near the VM nothing ever waits for a slow
// reader, what cannot be passed on is shed and counted.
package capture

import (
	"crosstap/internal/ledger"
)

// Reasons under which a source drops frames.
const (
	DropKernel     = iota // the kernel found no room in the ring, or could not describe a super-frame
	DropDownstream        // the next stage was slow and the ring nearly full
	DropDevice            // the ring handed over something that is not a frame
	DropStopped           // the source was told to stop before the next stage took it
)

// Stage is the name of the source in the ledger.
const Stage = "capture"

func newBook(more ...string) *ledger.Book {
	return ledger.New(Stage, ledger.Frames, append([]string{"kernel_dropped", "downstream_full", "bad_ring_entry", "stopped"}, more...)...)
}

// MaxFrame is the most bytes of one frame that a capture file may hold; the limit of libpcap.
const MaxFrame = 262144

// batchFrames is the number of frames in a full batch: enough to make the hand-over
// cheap, few enough that a batch's bytes stay in the second-level cache.
const batchFrames = 1024
