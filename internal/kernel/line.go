package kernel

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// Config says where programs are attached and which frames they take.
type Config struct {
	Interfaces  []string // names; their order gives the points
	NetNS       string   // file of the network namespace they are in; "" for the process's own
	IngressOnly bool     // not the frames that the host sends through the interface
	Promiscuous bool     // also frames that are addressed to others
	Way         Way
	Filter      string         // expression that frames must match; "" for all
	Options     filter.Options // of its compilation
	Sample      Sample
	Govern      bool         // SetShed may leave frames out, and what matches is counted
	Wait        bool         // attach nothing until Begin or Follow
	Keeper      []string     // command that runs Keep, to remove filters of tc when this process is killed; nil for none
	Log         *slog.Logger // nil for none
}

func (c *Config) validate() error {
	if len(c.Interfaces) == 0 {
		return errors.New("kernel: no interface: name at least one")
	}
	for _, name := range c.Interfaces {
		if name == "" || len(name) >= unix.IFNAMSIZ {
			return fmt.Errorf("kernel: interface %q: a name has 1 to %d bytes", name, unix.IFNAMSIZ-1)
		}
	}
	if err := c.Sample.validate(); err != nil {
		return err
	}
	var first error
	for _, link := range []frame.LinkType{frame.LinkEthernet, frame.LinkRaw} {
		_, err := compile(c.Filter, link, c.Options)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// CanFilter returns nil when programs in the kernel can decide the whole expression, an error that wraps ErrResidual when some tests
// are beyond them, and else the mistake in it.
func CanFilter(expr string, opt filter.Options) error {
	_, err := compile(expr, frame.LinkEthernet, opt)
	return err
}

// compile returns the program of an expression, nil for all frames.
func compile(expr string, link frame.LinkType, opt filter.Options) (asm.Instructions, error) {
	if expr == "" {
		return nil, nil
	}
	opt.KernelVLAN = link == frame.LinkEthernet
	f, err := filter.Compile(expr, link, opt)
	if err != nil {
		return nil, err
	}
	prog, residual, err := f.EBPF()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResidual, err)
	}
	if residual {
		x, _ := f.Explain()
		return nil, fmt.Errorf("%w: %s", ErrResidual, x.Deep)
	}
	return prog, nil
}

// hook is a program at one interface in one direction.
type hook struct {
	point uint32
	dir   frame.Direction
	link  frame.LinkType
	stats *stats
	gov   *stats // nil without a budget
	prog  *ebpf.Program
	at    attachment
}

// line is what all products have in common: programs at hooks, their counters, the lease, and interfaces that come and go.
type line struct {
	cfg  Config
	log  *slog.Logger
	body func(c *code, h *hook) // what happens to a frame that matched and is of the sample; ends with one of the results
	name string                 // of the programs

	lease  *lease    // nil with TCX
	late   time.Time // by then leases of processes that were killed before have ended; zero when their filters are gone
	orders *orders   // nil without a budget

	change sync.Mutex // of what is attached: held while programs come and go
	shed   Shed
	off    bool // for the budget
	waits  bool // for Begin or Follow
	ended  bool // by End, Follow or close

	mu    sync.Mutex
	index []int // of each point's interface, 0 while there is none
	link  []frame.LinkType
	hooks []*hook
	past  map[uint32]counts // of hooks of each point that are gone
	modes map[uint32]int    // sockets that keep interfaces promiscuous, by point

	govPast counts // of hooks that are gone, for the budget
	traffic *netlink.Handle
}

func (l *line) init(c Config, name string, body func(*code, *hook)) error {
	if err := c.validate(); err != nil {
		return err
	}
	l.cfg, l.name, l.body, l.log = c, name, body, c.Log
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.index, l.link = make([]int, len(c.Interfaces)), make([]frame.LinkType, len(c.Interfaces))
	l.past, l.modes = map[uint32]counts{}, map[uint32]int{}
	unlimitMemory()
	return nil
}

// Exclude leaves out the frames that an expression matches, too. Call it before Open.
func (l *line) Exclude(expr string) error {
	all := "not (" + expr + ")"
	if l.cfg.Filter != "" {
		all = "(" + l.cfg.Filter + ") and " + all
	}
	if err := CanFilter(all, l.cfg.Options); err != nil {
		return fmt.Errorf("kernel: filter: %w", err)
	}
	l.cfg.Filter = all
	return nil
}

// open attaches programs to all interfaces, each of which must be there.
func (l *line) open() (err error) {
	if l.cfg.Way == Clsact {
		if _, err := Sweep(l.cfg.NetNS); err != nil {
			l.log.Warn("filters of processes that were killed stay", "error", err)
		}
		if err := ownJanitor.watch(l.cfg.Keeper, l.cfg.NetNS); err != nil {
			l.log.Warn("should this process be killed, its filters stay until the next start", "error", err)
		}
		if l.lease, err = newLease(); err != nil {
			return fmt.Errorf("kernel: %w", permission(err))
		}
		l.late = time.Now().Add(Lease + lookInterval)
	}
	if err := l.openOrders(); err != nil {
		return err
	}
	if l.cfg.Wait {
		l.waits = true
		err = l.ready()
	} else {
		err = l.joinEach()
	}
	if err != nil {
		l.close()
	}
	return err
}

// join attaches programs to the interface of a point.
func (l *line) join(point uint32) error {
	name := l.cfg.Interfaces[point]
	return netns.Do(l.cfg.NetNS, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("interface %q: %w", name, err)
		}
		defer h.Close()
		found, err := h.LinkByName(name)
		if err != nil {
			return unknown(name, err)
		}
		a := found.Attrs()
		link, err := linkType(a)
		if err != nil {
			return err
		}
		if err := l.hookUp(point, a.Index, link, func(k *hook) error { return l.attach(k, a.Index) }); err != nil {
			return err
		}
		l.log.Info("program attached", "interface", name, "ifindex", a.Index, "way", l.cfg.Way.String(), "program", l.name)
		return nil
	})
}

// hookUp gives a point its hooks on an interface, each put in place by put; after an error it has none.
func (l *line) hookUp(point uint32, index int, link frame.LinkType, put func(*hook) error) error {
	if err := l.promiscuous(point, index); err != nil {
		return err
	}
	for _, dir := range directions {
		if dir == frame.Egress && (l.cfg.IngressOnly || loopback(index)) {
			continue
		}
		k := &hook{point: point, dir: dir, link: link}
		if err := put(k); err != nil {
			l.leave(point)
			return fmt.Errorf("interface %q: %w", l.cfg.Interfaces[point], err)
		}
		l.mu.Lock()
		l.hooks = append(l.hooks, k)
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.index[point], l.link[point] = index, link
	l.mu.Unlock()
	return nil
}

// attach loads and attaches the program of a hook.
func (l *line) attach(k *hook, index int) (err error) {
	if err = l.loadHook(k); err == nil {
		k.at, err = attach(l.cfg.Way, index, k.dir, k.prog)
	}
	if err != nil {
		k.close()
	}
	return err
}

// loadHook assembles and loads the program of a hook.
func (l *line) loadHook(k *hook) (err error) {
	if k.stats, err = newStats(); err != nil {
		return permission(err)
	}
	if l.orders != nil {
		if k.gov, err = newStats(); err != nil {
			return permission(err)
		}
	}
	ins, err := l.program(k)
	if err == nil {
		k.prog, err = load(l.name, ins)
	}
	return err
}

// load loads a program for tc and TCX hooks.
func load(name string, ins asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, Instructions: prune(ins), License: "GPL"})
	if err != nil {
		return nil, fmt.Errorf("load the program: %w", permission(err))
	}
	return p, nil
}

// program assembles the program of a hook: lease, filter, sample, and what the product does.
func (l *line) program(k *hook) (asm.Instructions, error) {
	expr, err := compile(l.cfg.Filter, k.link, l.cfg.Options)
	if err != nil {
		return nil, err
	}
	const matched, refused, aside, expired, shed = "matched", "refused", "aside", "expired", "shed"
	c := &code{}
	c.add(asm.Mov.Reg(regCtx, asm.R1))
	if l.lease != nil {
		l.lease.look(c, expired)
		c.add(asm.Mov.Reg(asm.R1, regCtx))
	}
	if expr != nil {
		c.filter(expr, matched, refused)
	}
	c.at(matched)
	l.obey(c, k, shed)
	l.cfg.Sample.draw(c, k, aside)
	l.body(c, k)
	c.at(refused)
	k.stats.count(c, statFiltered)
	c.result(actNext)
	c.at(aside)
	k.stats.count(c, statSampled)
	c.result(actNext)
	c.at(expired)
	k.stats.count(c, statLapsed)
	c.result(actNext)
	if k.gov != nil {
		c.at(shed)
		k.gov.count(c, govShed)
		c.result(actNext)
	}
	c.finish()
	return c.ins, nil
}

func (k *hook) close() {
	if k.at != nil {
		_ = k.at.Close()
	}
	if k.prog != nil {
		_ = k.prog.Close()
	}
	for _, s := range []*stats{k.stats, k.gov} {
		if s != nil {
			s.close()
		}
	}
}

// leave detaches the programs of a point and keeps what they counted.
func (l *line) leave(point uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var stay []*hook
	for _, k := range l.hooks {
		if k.point != point {
			stay = append(stay, k)
			continue
		}
		l.detach(k)
	}
	l.hooks = stay
	l.index[point] = 0
	if fd, ok := l.modes[point]; ok {
		_ = unix.Close(fd)
		delete(l.modes, point)
	}
}

// detach ends one program. The kernel waits for those that run before it returns. The caller holds mu.
func (l *line) detach(k *hook) {
	if k.at != nil {
		switch err := k.at.Close(); {
		case errors.Is(err, errStays):
			l.log.Info("program detached", "interface", l.cfg.Interfaces[k.point], "qdisc", err)
		case err != nil:
			l.log.Warn("program not detached", "interface", l.cfg.Interfaces[k.point], "error", err)
		}
		k.at = nil
	}
	if c, err := k.stats.read(); err == nil {
		sum := l.past[k.point]
		sum.add(c)
		l.past[k.point] = sum
	}
	if k.gov != nil {
		if c, err := k.gov.read(); err == nil {
			l.govPast.add(c)
		}
	}
	k.close()
}

// close detaches all.
func (l *line) close() {
	l.change.Lock()
	defer l.change.Unlock()
	l.ended = true
	l.leaveAll()
	if l.lease != nil {
		l.lease.close()
		l.lease = nil
	}
	l.orders.close()
	l.orders = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.traffic != nil {
		l.traffic.Close()
		l.traffic = nil
	}
}

// read returns the counters of a point, or of all points for -1.
func (l *line) read(point int) (sum counts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, c := range l.past {
		if point < 0 || int(p) == point {
			sum.add(c)
		}
	}
	for _, k := range l.hooks {
		if point < 0 || int(k.point) == point {
			if c, err := k.stats.read(); err == nil {
				sum.add(c)
			}
		}
	}
	return sum
}
