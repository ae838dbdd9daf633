package ovs

import (
	"context"
	"errors"
	"fmt"

	"crosstap/internal/control/platform"
	"crosstap/internal/openflow"
)

// copies counts what a mirror makes of one port that comes into it.
type copies struct {
	conn   *openflow.Conn
	port   uint32
	of     platform.Direction              // copies of these directions are counted, and no others
	shared bool                            // others' packets count too until the copies begin
	read   func(openflow.PortCount) uint64 // the counter
	base   uint64                          // before
	end    func()                          // nil when nothing has to be taken back
}

func (c *copies) count(ctx context.Context) (int64, error) {
	now, err := c.conn.PortCounts(ctx, c.port)
	return int64(c.read(now) - c.base), err
}

// copies begins to count those of a mirror. The statistics of mirrors, flows, patches and tunnels are no use: Open vSwitch adds them up from
// its cached flows twice a second, and credits what passed before a mirror to the mirror. Exact and immediate are the counters of interfaces
// of the kernel: the tool's port where copies go there, which is reserved for them, and else that of our bridge itself, through which
// flows send copies as well for as long as they are counted. Its interface is down: the switch throws away what goes there, and counts it.
func (p *Platform) copies(ctx context.Context, d *db, m *meter, was mirrorSpec) (*copies, error) {
	if len(m.fresh) != 1 {
		return nil, errors.New("several ports have come into the mirror at once")
	}
	if m.mirror.Type == "" {
		c := &copies{conn: m.conn, port: m.ports[m.mirror.Output], of: platform.Both, read: func(n openflow.PortCount) uint64 { return n.Out }}
		c.shared = was.Output != m.mirror.Output
		if !m.whole(m.fresh[0]) || c.port == 0 {
			return nil, errors.New("the tool gets copies of other machines too")
		}
		now, err := m.conn.PortCounts(ctx, c.port)
		c.base = now.Out
		return c, err
	}
	feed := read[feedSpec](d.ours(ownerOf(encode(m.mirror)))[[2]string{kindFeed, m.mirror.Options["peer"]}])
	if m.mirror.Type != "patch" || feed.Name == "" {
		return nil, errors.New("the copies leave through a tunnel, which Open vSwitch counts late")
	}
	m.feed = feed.What
	return p.sink(ctx, d, m, &feed)
}

// countFor is how long the flows that count live at most, when nobody takes them out: longer than the switch may take to confirm copies and than
// they are counted.
const countFor = 30 // seconds

// sink has the flows of a feed send copies to the interface of our bridge as well: all of them, or those that the machine has sent.
func (p *Platform) sink(ctx context.Context, d *db, m *meter, feed *feedSpec) (*copies, error) {
	_, port, _ := d.find("Port", m.fresh[0])
	c := &copies{port: openflow.Local, of: platform.Both, read: func(n openflow.PortCount) uint64 { return n.OutDropped }}
	match := ""
	if !m.whole(m.fresh[0]) {
		mac := macOf(d.iface(port).TextMap("external_ids")["attached-mac"])
		if mac == 0 {
			return nil, errors.New("the tool gets copies of other machines too, and the machine's MAC address is not known")
		}
		match, c.of = "dl_src="+mac.String(), platform.Ingress
	}
	flows, err := feed.counting(match)
	if err != nil {
		return nil, err
	}
	if !p.claim(feed.Bridge, true) {
		return nil, errors.New("the copies of another port are being counted")
	}
	if c.conn, err = p.openflow(ctx, feed.Bridge); err != nil {
		p.claim(feed.Bridge, false)
		return nil, err
	}
	cookie := feedCookie("count " + feed.Name)
	c.end = func() {
		ctx, cancel := context.WithTimeout(context.Background(), probeWait)
		defer cancel()
		_ = c.conn.Replace(ctx, cookie, feedMask, nil, nil) // else they end by themselves
		_ = c.conn.Close()
		p.claim(feed.Bridge, false)
	}
	ports := d.ofports(feed.Bridge)
	ports[localPort] = openflow.Local
	if err = c.conn.Replace(ctx, cookie, feedMask, flows, ports); err == nil {
		err = c.try(ctx)
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// try sends a frame without content where copies are to be counted: it must be counted, and by one.
func (c *copies) try(ctx context.Context) error {
	was, err := c.conn.PortCounts(ctx, c.port)
	if err != nil {
		return err
	}
	if err := c.conn.SendOut(c.port, emptyFrame()); err != nil {
		return err
	}
	now, err := c.conn.PortCounts(ctx, c.port)
	if err != nil {
		return err
	}
	if c.base = c.read(now); c.base-c.read(was) != 1 {
		return fmt.Errorf("the switch does not count what it throws away: %d of 1", c.base-c.read(was))
	}
	return nil
}

// claim takes or gives back the counter of a bridge of ours, which can count for one port at a time.
func (p *Platform) claim(bridge string, take bool) bool {
	p.gapMu.Lock()
	defer p.gapMu.Unlock()
	if take && p.counting[bridge] {
		return false
	}
	if p.counting == nil {
		p.counting = map[string]bool{}
	}
	p.counting[bridge] = take
	return true
}

// localPort stands for the interface of a bridge among the names of its ports.
const localPort = "LOCAL"

// counting returns flows that do what those of a feed do first, for packets that match, and send them to the bridge's interface before.
func (s *feedSpec) counting(match string) ([]openflow.Flow, error) {
	all, err := s.flows()
	if err != nil {
		return nil, err
	}
	var out []openflow.Flow
	for _, f := range all {
		if f.Table != tableChoose || len(f.Actions) == 0 {
			continue
		}
		if f.Match != "" && match != "" {
			f.Match = match + "," + f.Match
		} else {
			f.Match += match
		}
		f.Priority++
		f.Cookie, f.HardTimeout = feedCookie("count "+s.Name), countFor
		f.Actions = append([]openflow.Action{{Output: localPort}}, f.Actions...)
		out = append(out, f)
	}
	return out, nil
}

// emptyFrame is a frame of the shortest length without content. EtherType 0x88B5 is for local use (IEEE 802, clause 9.2.3).
func emptyFrame() []byte {
	const shortest = 60
	frame := make([]byte, shortest)
	copy(frame, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5})
	return frame
}
