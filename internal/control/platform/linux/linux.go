//go:build linux

package linux

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	"crosstap/internal/libvirt"
	"crosstap/internal/netns"
	"crosstap/internal/route/linuxroute"
)

// Kind is the word for this room.
const Kind = "linux"

// Config of a platform.
type Config struct {
	Name     string                  // of the platform
	As       string                  // the platform's kind; "" for linux
	Host     string                  // name of the host; "" for the machine's
	NetNS    string                  // file of the network namespace that is the host; "" for the process's own
	Libvirt  *libvirt.Source         // who knows the guests behind the ports; nil when nobody does
	Segments map[string]flow.Segment // bridge, or bridge/VLAN → segment
	Log      *slog.Logger
}

// Platform is one kernel.
type Platform struct {
	cfg     Config
	log     *slog.Logger
	host    string
	version string
	can     platform.Capability

	busy   sync.RWMutex // held while the way to the kernel is used; for writing, while it is closed
	mu     sync.Mutex   // held while it is opened
	space  *netns.Space
	handle *netlink.Handle
	routes linuxroute.Reader
	socket *socket
	closed bool
	onGap  func(platform.Gap)

	scanned scan     // of processes
	fresh   sync.Map // index of an interface that came while Watch runs → when
	kept    kept

	life context.Context // ends with Close
	end  context.CancelFunc
}

var (
	_ platform.Platform = (*Platform)(nil)
	_ platform.Gapper   = (*Platform)(nil)
)

// New returns a platform. It opens nothing.
func New(c Config) (*Platform, error) {
	p := &Platform{cfg: c, log: c.Log, host: c.Host}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if c.Name == "" {
		return nil, errors.New("linux: a platform needs a name")
	}
	var err error
	if p.host == "" {
		if p.host, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("linux: name of the host: %w", err)
		}
	}
	p.version, p.can = kernelVersion(), capability(encaps())
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

// with runs f while the way to the kernel is open.
func (p *Platform) with(f func() error) error {
	p.busy.RLock()
	defer p.busy.RUnlock()
	if err := p.open(); err != nil {
		return err
	}
	return f()
}

// open opens the way to the kernel.
func (p *Platform) open() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return fmt.Errorf("linux: %s: closed", p.cfg.Name)
	case p.socket != nil:
		return nil
	}
	defer func() {
		if err != nil {
			p.shut()
			err = fmt.Errorf("linux: %s: %w", p.cfg.Name, err)
		}
	}()
	if p.space, err = netns.Open(p.cfg.NetNS); err != nil {
		return err
	}
	if p.handle, err = openHandle(p.space); err != nil {
		return err
	}
	return p.space.Do(func() (err error) { p.socket, err = openSocket(); return err })
}

// Close gives back the way to the kernel. What was made there stays.
func (p *Platform) Close() error {
	p.end()
	p.lastQdiscs()
	p.busy.Lock()
	defer p.busy.Unlock()
	p.closed = true
	p.shut()
	return nil
}

func (p *Platform) shut() {
	if p.handle != nil {
		p.handle.Close()
	}
	if p.socket != nil {
		p.socket.close()
	}
	p.space.Close()
	p.handle, p.socket, p.space = nil, nil, nil
}

// Name implements platform.Platform.
func (p *Platform) Name() string { return p.cfg.Name }

// Kind implements platform.Platform.
func (p *Platform) Kind() string { return cmp.Or(p.cfg.As, Kind) }

// Read implements platform.Platform.
func (p *Platform) Read(ctx context.Context) (*platform.Snapshot, error) {
	guests, err := p.guests(ctx)
	if err != nil {
		return nil, fmt.Errorf("linux: %s: %w", p.cfg.Name, err)
	}
	return p.see(guests)
}

// see reads the kernel.
func (p *Platform) see(guests *libvirt.State) (out *platform.Snapshot, err error) {
	err = p.with(func() error {
		s, err := p.read()
		if err != nil {
			return fmt.Errorf("linux: %s: %w", p.cfg.Name, err)
		}
		out = p.snapshot(s, guests, time.Now().UnixNano())
		return nil
	})
	return out, err
}

func (p *Platform) guests(ctx context.Context) (*libvirt.State, error) {
	if p.cfg.Libvirt == nil {
		return nil, nil
	}
	return p.cfg.Libvirt.Read(ctx)
}

// kernelVersion is such as "Linux 6.1.0-18-amd64".
func kernelVersion() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "Linux"
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}

// capability is what every switch here can do: the hooks are of the port, not of the switch.
func capability(encaps []platform.Encap) platform.Capability {
	return platform.Capability{
		Methods: []platform.Method{platform.MethodMirror, platform.MethodRemoteMirror, platform.MethodPromiscuous}, Encaps: encaps, Filter: platform.FilterFull,
		ExceptMACs: true, Sample: true, VLANs: true, UplinkSource: true,
	}
}
