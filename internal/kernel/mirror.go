package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/netns"
)

// MirrorConfig says what a Mirror copies, and where to.
type MirrorConfig struct {
	Config
	Outer Outer
}

// Mirror copies the frames of interfaces to a tool inside the kernel; user space only keeps the books and follows the route.
type Mirror struct {
	line
	outer   Outer
	book    *ledger.Book
	way     *wayOut
	devices []*device // of each point
	pace    *pace     // of all of them, nil without a rate
	told    error     // about the way out
	tripped bool      // the end of a loop was told

	last account
	gone uint64        // segments that are lost for sure
	sent atomic.Uint64 // bytes
}

// NewMirror returns a mirror. All mistakes of its configuration are found here.
func NewMirror(c MirrorConfig) (*Mirror, error) {
	c.Outer.Fits = min(c.Outer.Fits, maxFits) // loopback takes longer packets than IP has
	if err := c.Outer.validate(); err != nil {
		return nil, err
	}
	m := &Mirror{outer: c.Outer, book: newBook()}
	err := m.init(c.Config, "xt_mirror", func(c *code, k *hook) {
		cloneTo(c, k, m.devices[k.point].index, cutter{m.outer.cuts(), m.orders})
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Book returns the mirror's account. What goes out are packets to the tool.
func (m *Mirror) Book() *ledger.Book { return m.book }

// waitNeighbour is how long the first packet may have to wait for the address of the next hop.
const waitNeighbour = 2 * time.Second

// Open attaches the programs. Close or Run has to follow.
func (m *Mirror) Open() (err error) {
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if m.way, err = newWayOut(m.cfg.NetNS, &m.outer); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	for end := time.Now().Add(waitNeighbour); ; time.Sleep(20 * time.Millisecond) {
		if err = m.way.follow(); err == nil || !errors.Is(err, errNoNeighbour) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err = m.openOrders(); err != nil {
		return err
	}
	if m.outer.Rate > 0 {
		if m.pace, err = newPace(m.outer.Rate); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
	}
	err = netns.Do(m.cfg.NetNS, func() error {
		for point := range m.cfg.Interfaces {
			d, err := newDevice(m.cfg.Way, &m.outer, m.way, uint32(point), m.orders, m.pace)
			if err != nil {
				return err
			}
			m.devices = append(m.devices, d)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err = m.open(); err != nil {
		return err
	}
	for point, link := range m.link {
		if link != frame.LinkEthernet {
			return fmt.Errorf("kernel: interface %s is not Ethernet: its frames cannot be copied in the kernel", m.cfg.Interfaces[point])
		}
	}
	return nil
}

// Close detaches the programs and removes the devices.
func (m *Mirror) Close() {
	m.close()
	for _, d := range m.devices {
		d.close()
	}
	m.devices = nil
	m.pace.close()
	m.pace = nil
	if m.way != nil {
		m.way.close()
		m.way = nil
	}
}

const bookInterval = 200 * time.Millisecond // between looks at the counters

// Run keeps the books of an opened mirror and follows its route until ctx ends. No frame goes to out.
func (m *Mirror) Run(ctx context.Context, _ chan<- frame.Batch) error {
	defer m.Close()
	n := 0
	m.tend(ctx, bookInterval, func() {
		m.account()
		if n++; n%5 == 0 {
			m.follow()
		}
	})
	m.close() // no clones from here on
	for range 50 {
		if m.account(); m.last.held == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond) // copies between the ends of the device
	}
	m.settle()
	return nil
}

// follow keeps the way out in step with the route, and says once when it is lost or back.
func (m *Mirror) follow() {
	if !m.tripped && m.way.looped() {
		m.tripped = true
		m.log.Error("loop: our own copies are being captured again: this destination is stopped; tap elsewhere, or send the copies another way", "to", m.outer.Tool.String())
	}
	err := m.way.follow()
	switch {
	case err != nil && m.told == nil:
		m.log.Warn("no way to the tool: copies are lost until there is one", "error", err)
	case err == nil && m.told != nil:
		m.log.Info("the way to the tool is back")
	}
	m.told = err
}

// account is the state of the books at a moment.
type account struct {
	in, out, filtered, sampled, shed, lost, big, over, made, held uint64
}

// account reads all counters and books the difference to the last time.
//
// A clone is wrapped at once, or its segments are. What the programs at the interfaces call lost includes what the wrapper refused at once. Segments are cut and wrapped
// before the program at the interface goes on: those that have not come when it has counted them are lost. Of those that it counts while this reads the counters nobody can
// say; they are held.
func (m *Mirror) account() {
	direct, back, ok := m.wrapped()
	if !ok {
		return
	}
	c, gov := m.read(-1), m.readGov()
	_, later, ok := m.wrapped()
	if !ok {
		return
	}
	came, segments := arrived(back), max(c[statSegments], arrived(back))
	m.gone = max(m.gone, segments-min(arrived(later), segments))
	refused := direct[statTooBig] + direct[statOver]
	now := account{
		in: c.seen() + gov[govShed], filtered: c[statFiltered], sampled: c[statSampled], shed: gov[govShed], big: direct[statTooBig] + back[statTooBig],
		over: direct[statOver] + back[statOver],
		lost: c[statLost] - min(c[statLost], refused) + c[statLapsed] + back[statLost] + m.gone,
		out:  c[statOut] + back[statOut],
		made: segments - c[statUp], held: segments - came - m.gone,
	}
	head := uint64(m.outer.length())
	m.sent.Store(direct[statBytes] - min(direct[statBytes], direct[statOut]*head) + back[statBytes] - min(back[statBytes], back[statOut]*head))
	m.enter(now)
}

// wrapped returns the counters of the wrappers: of whole clones and of segments.
func (m *Mirror) wrapped() (direct, back counts, ok bool) {
	for _, d := range m.devices {
		a, err1 := d.out.read()
		b, err2 := d.back.read()
		if err1 != nil || err2 != nil {
			return direct, back, false
		}
		direct.add(a)
		back.add(b)
	}
	return direct, back, true
}

// arrived returns the number of segments that wrappers saw.
func arrived(back counts) uint64 { return back.seen() + back[statOver] }

// enter books the difference to the last time.
func (m *Mirror) enter(now account) {
	was := m.last
	diff := func(a, b uint64) int { return int(int64(a - b)) }
	m.book.In(diff(now.in, was.in))
	m.book.Drop(DropFiltered, diff(now.filtered, was.filtered))
	m.book.Drop(DropSampled, diff(now.sampled, was.sampled))
	m.book.Drop(DropShed, diff(now.shed, was.shed))
	m.book.Drop(DropLost, diff(now.lost, was.lost))
	m.book.Drop(DropTooBig, diff(now.big, was.big))
	m.book.Drop(DropRate, diff(now.over, was.over))
	m.book.Made(diff(now.made, was.made))
	m.book.Hold(diff(now.held, was.held))
	m.book.Out(diff(now.out, was.out))
	m.last = now
}

// Sent returns the bytes of copies that left, without their outer headers, as far as a budget has them counted and the books were kept. It is safe
// for concurrent use.
func (m *Mirror) Sent() uint64 { return m.sent.Load() }

// settle counts as lost what never came back.
func (m *Mirror) settle() {
	now := m.last
	now.lost += now.held
	now.held = 0
	m.enter(now)
}
