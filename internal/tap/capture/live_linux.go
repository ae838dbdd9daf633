package capture

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/netns"
)

// LiveConfig says which interfaces to capture from, and how.
type LiveConfig struct {
	Interfaces  []string // names; their order gives the frames' Point
	NetNS       string   // file of the network namespace they are in; "" for the process's own
	RingBytes   int      // of kernel memory for each interface
	SnapLen     int      // keep at most so many bytes of each frame; 0 for all
	Promiscuous bool     // also frames that are addressed to others
	IngressOnly bool     // not the frames that the host sends through the interface
	// Filter returns the classic BPF program for interfaces of a link type (one for cooked frames is not needed: frames
	// begin with their link header); the program's result is the number of bytes to keep, 0 to pass the frame over. It is
	// in place before the first frame. nil for all frames.
	Filter func(link frame.LinkType) ([]bpf.RawInstruction, error)
	// Govern translates classic programs into eBPF (filter.Translate). With it SetShed leaves frames out, and the kernel counts every
	// frame, also those that the filter refuses, where it may; nil for neither.
	Govern func([]bpf.Instruction) (asm.Instructions, error)
	// Ready is called once, when every interface is being captured from.
	Ready func()
	Log   *slog.Logger // nil for none

	inPlace bool // the batches are taken where they are made: Each
}

// DefaultLiveConfig returns a configuration without interfaces.
func DefaultLiveConfig() LiveConfig {
	return LiveConfig{RingBytes: 32 << 20, Promiscuous: true}
}

// The least and most of a ring: a block must have room for the largest super-frame of ordinary segmentation
// offload, and a ring for several blocks.
const (
	minBlock = 128 << 10
	maxBlk   = 1 << 20
	minRing  = 8 * minBlock
	maxRing  = 1 << 30
)

// Validate reports the first mistake.
func (c LiveConfig) Validate() error {
	if len(c.Interfaces) == 0 {
		return errors.New("capture: no interface: name at least one")
	}
	seen := map[string]bool{}
	for _, name := range c.Interfaces {
		if name == "" || len(name) >= unix.IFNAMSIZ {
			return fmt.Errorf("capture: interface %q: a name has 1 to %d bytes", name, unix.IFNAMSIZ-1)
		}
		if seen[name] {
			return fmt.Errorf("capture: interface %q is named twice", name)
		}
		seen[name] = true
	}
	if c.RingBytes < minRing || c.RingBytes > maxRing {
		return fmt.Errorf("capture: ring of %d bytes: must be %d to %d", c.RingBytes, minRing, maxRing)
	}
	if c.SnapLen < 0 {
		return fmt.Errorf("capture: snap length %d: must not be negative", c.SnapLen)
	}
	return nil
}

// Live captures from interfaces through memory-mapped rings that the kernel fills (packet(7),
// TPACKET_V3). Each frame comes with its virtio header, so that super-frames of segmentation offload can be
// counted as what they stand for.
type Live struct {
	cfg    LiveConfig
	book   *ledger.Book
	log    *slog.Logger
	space  *netns.Space
	rings  []*ring
	points []livePoint // by the interfaces of cfg

	giveUp time.Time // on the next stage, once ctx has ended

	in *inPlace // of Each; nil for Run

	wish atomic.Pointer[order]
	shed Shed   // what the kernel leaves out now
	told Kernel // what of the kernel's counts is in the book

	mu        sync.Mutex
	governors []*governor
	gone      Kernel // counts of those that are no more
	exact     bool   // the kernel counts for all rings
	traffic   *netlink.Handle
}

// livePoint is what others may ask of an interface while it is captured.
type livePoint struct {
	index  atomic.Uint32 // of the interface, 0 while it is not captured
	link   atomic.Uint32 // its link type + 1, 0 before it was captured
	lost   atomic.Uint64 // frames that the kernel dropped
	before atomic.Uint64 // frames that the interface had dropped when capturing began
}

// NewLive returns a source for c. Interfaces are looked up by Run.
func NewLive(c LiveConfig) (*Live, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	book := newBook()
	if c.Govern != nil {
		book = newBook("filtered_in_kernel", "shed_for_budget")
	}
	return &Live{cfg: c, book: book, log: log, exact: c.Govern != nil, points: make([]livePoint, len(c.Interfaces))}, nil
}

// Book returns the source's account.
func (l *Live) Book() *ledger.Book { return l.book }

// Interface returns the name and the present index of a point's interface; the index is 0 while it is not captured.
// It is safe for concurrent use.
func (l *Live) Interface(point uint32) (name string, index uint32) {
	if int(point) >= len(l.points) {
		return "", 0
	}
	return l.cfg.Interfaces[point], l.points[point].index.Load()
}

// Link returns the link type of a point's interface, false before it is captured. It is safe for concurrent use.
func (l *Live) Link(point uint32) (frame.LinkType, bool) {
	if int(point) >= len(l.points) {
		return 0, false
	}
	n := l.points[point].link.Load()
	return frame.LinkType(n - 1), n != 0
}

// Lost returns the number of frames of a point's interface that the kernel dropped. It is safe for concurrent use.
func (l *Live) Lost(point uint32) uint64 {
	if int(point) >= len(l.points) {
		return 0
	}
	return l.points[point].lost.Load()
}

// Missed returns the number of frames of a point that the interface itself has dropped since capturing began; 0 where that is
// not known, as in another network namespace. It is safe for concurrent use.
func (l *Live) Missed(point uint32) uint64 {
	if int(point) >= len(l.points) {
		return 0
	}
	now, before := l.missed(l.cfg.Interfaces[point]), l.points[point].before.Load()
	return max(now, before) - before
}

func (l *Live) missed(name string) (n uint64) {
	if l.cfg.NetNS != "" {
		return 0
	}
	for _, counter := range []string{"rx_missed_errors", "rx_fifo_errors"} {
		b, err := os.ReadFile("/sys/class/net/" + name + "/statistics/" + counter)
		if err != nil {
			return 0
		}
		v, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		n += v
	}
	return n
}
