package ovs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/openflow"
	"crosstap/internal/ovsdb"
)

// How the two ways to a switch are found: OVSDB at the address, OpenFlow of our bridge beside it or where the resource says.
//
// A bridge of Open vSwitch takes OpenFlow at a socket beside the database's. Over the network it takes none, unless the database has a
// Controller row that lets it listen. For our own bridge, and for no other, we make that row (bridgeSpec.Listen). Tenants' bridges are never
// made to listen; one that does by itself is asked what passed a port before its copies began (meter), of others that is not known.

// noFlows is the value of OpenFlow for a switch that is to be reached by its database alone.
const noFlows = "none"

// flowPort is where OpenFlow is by default (OpenFlow 1.4, section 6.3.1).
const flowPort = "6653"

// tagFlows is the tag of a host whose bridge does not take OpenFlow, with the reason.
const tagFlows = "openflow"

// checkReach finds mistakes in how a switch is reached.
func (c *Config) checkReach() error {
	scheme, address, _ := strings.Cut(c.OpenFlow, ":")
	switch scheme {
	case "", noFlows:
	case "unix":
		if address == "" {
			return fmt.Errorf("openflow %q: want unix:PATH, with {bridge} for the bridge's name", c.OpenFlow)
		}
	case "tcp", "ssl":
		if strings.Contains(address, "{bridge}") {
			return fmt.Errorf("openflow %q: over the network our bridge alone is reached: name the host and port, such as ssl:10.0.0.1:%s", c.OpenFlow, flowPort)
		}
		if _, port := c.flowHost(); port == "" {
			return fmt.Errorf("openflow %q: want %s:HOST[:%s]", c.OpenFlow, scheme, flowPort)
		}
		if scheme == "ssl" && c.TLS == nil {
			return fmt.Errorf("openflow %q: ssl needs a certificate and the authorities to trust (tls: {ca, cert, key})", c.OpenFlow)
		}
	default:
		return fmt.Errorf("openflow %q: want unix:PATH with {bridge} for the bridge's name, tcp:HOST[:%s], ssl:HOST[:%s], or none", c.OpenFlow, flowPort, flowPort)
	}
	if _, err := pin(c.Thumbprint); err != nil {
		return err
	}
	return nil
}

// networked reports whether our bridge is reached over the network.
func (c *Config) networked() bool {
	return strings.HasPrefix(c.OpenFlow, "tcp:") || strings.HasPrefix(c.OpenFlow, "ssl:")
}

// flowHost returns host and port of OpenFlow over the network.
func (c *Config) flowHost() (host, port string) {
	_, address, _ := strings.Cut(c.OpenFlow, ":")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), flowPort
	}
	if host == "" {
		return "", ""
	}
	return host, port
}

// listen is the target of the Controller row by which our bridge takes OpenFlow over the network; "" when it needs none. Where the host
// is named by its address the bridge listens there alone.
func (p *Platform) listen(datapath string) string {
	if !p.cfg.networked() {
		return ""
	}
	host, port := p.cfg.flowHost()
	scheme, _, _ := strings.Cut(p.cfg.OpenFlow, ":")
	target := "p" + scheme + ":" + portFor(port, datapath)
	switch {
	case p.cfg.Exports.Listen != "":
		return target + ":" + p.cfg.Exports.Listen
	case isAddr(host) && strings.Contains(host, ":"):
		return target + ":[" + host + "]"
	case isAddr(host):
		return target + ":" + host
	}
	return target
}

func isAddr(host string) bool { _, err := netip.ParseAddr(host); return err == nil }

// portFor is the port for a kind of datapath: the kernel's bridge listens at the next one.
func portFor(port, datapath string) string {
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil || datapath == userspace {
		return port
	}
	return fmt.Sprint(n + 1)
}

// flowsAt returns where a bridge takes OpenFlow; "" when nowhere.
func (p *Platform) flowsAt(bridge string) (network, address string) {
	switch at := p.cfg.OpenFlow; {
	case at == noFlows:
		return "", ""
	case p.cfg.networked():
		host, port := p.cfg.flowHost()
		datapath := userspace
		if strings.HasSuffix(bridge, "k") && bridge != p.cfg.Bridge {
			datapath = ""
		}
		return "tcp", net.JoinHostPort(host, portFor(port, datapath))
	case at == "":
		path, ok := strings.CutPrefix(p.cfg.Address, "unix:")
		if !ok {
			return "", ""
		}
		return "unix", filepath.Join(filepath.Dir(path), bridge+".mgmt")
	default:
		network, address, _ = strings.Cut(strings.ReplaceAll(at, "{bridge}", bridge), ":")
		return network, address
	}
}

func (p *Platform) hasOpenFlow() bool { n, _ := p.flowsAt("x"); return n != "" }

// openflow begins a session with a bridge of ours, or with any when it is beside the database.
func (p *Platform) openflow(ctx context.Context, bridge string) (*openflow.Conn, error) {
	network, address := p.flowsAt(bridge)
	var conf *tls.Config
	if strings.HasPrefix(p.cfg.OpenFlow, "ssl:") {
		host, _ := p.cfg.flowHost()
		conf = p.cfg.protect(host)
	}
	limited, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	c, err := openflow.Dial(limited, network, address, conf)
	if err != nil {
		err = fmt.Errorf("ovs: %s: bridge %s: %w: %w", p.cfg.Name, bridge, platform.ErrUnreachable, err)
	}
	if ctx.Err() == nil { // else it is us who gave up
		p.answered(bridge, err)
	}
	return c, err
}

// answered notes whether a bridge answers.
func (p *Platform) answered(bridge string, err error) {
	if !p.cfg.networked() {
		return
	}
	p.probeMu.Lock()
	defer p.probeMu.Unlock()
	if p.mute == nil {
		p.mute = map[string]failure{}
	}
	if delete(p.mute, bridge); err != nil {
		p.mute[bridge] = failure{time.Now(), err}
	}
}

// silent returns how a bridge failed to answer the last time, if it did.
func (p *Platform) silent(bridge string) (failure, bool) {
	p.probeMu.Lock()
	defer p.probeMu.Unlock()
	f, failed := p.mute[bridge]
	return f, failed
}

// steady is the text of an error without what differs each time, such as the port that we came from.
func steady(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Source != nil {
		return fmt.Sprintf("%s %v: %v", op.Op, op.Addr, op.Err)
	}
	return err.Error()
}

// Times of asking a switch.
const (
	dialWait  = 10 * time.Second
	probeWait = 3 * time.Second
)

// endpoint is how the database is reached.
func (p *Platform) endpoint() ovsdb.Endpoint {
	e := ovsdb.Endpoint{Address: p.cfg.Address}
	if address, ssl := strings.CutPrefix(p.cfg.Address, "ssl:"); ssl && p.cfg.TLS != nil {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = strings.Trim(address, "[]")
		}
		e.TLS = p.cfg.protect(host)
	}
	return e
}

// pin reads the SHA-256 of a certificate; nil for none.
func pin(thumbprint string) ([]byte, error) {
	if thumbprint == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.ToLower(thumbprint), ":", ""))
	if err != nil || len(b) != sha256.Size {
		return nil, fmt.Errorf("thumbprint %q: want the SHA-256 of the certificate, %d pairs of digits", thumbprint, sha256.Size)
	}
	return b, nil
}

// protect is TLS towards a host as Open vSwitch has it: the certificate must be the pinned one, or one of the authorities that are given must
// have signed it. One that names hosts must name this one; those of ovs-pki name none, and then the name that the resource demands is compared
// with the subject's.
func (c *Config) protect(host string) *tls.Config {
	out := c.TLS.Clone()
	want, _ := pin(c.Thumbprint) // New has read it
	if want == nil && out.RootCAs == nil {
		return out // the system's authorities sign for names
	}
	demanded := out.ServerName
	name := host
	if demanded != "" {
		name = demanded
	}
	out.ServerName = name
	out.InsecureSkipVerify = true // what follows decides
	out.VerifyConnection = func(s tls.ConnectionState) error {
		leaf := s.PeerCertificates[0]
		if want != nil {
			if sum := sha256.Sum256(leaf.Raw); string(sum[:]) != string(want) {
				return fmt.Errorf("the certificate of %s is not the pinned one: its SHA-256 is %X; set this as thumbprint if you trust it", host, sum)
			}
			return nil
		}
		o := x509.VerifyOptions{Roots: out.RootCAs, Intermediates: x509.NewCertPool()}
		for _, between := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(between)
		}
		switch {
		case namesHosts(leaf):
			o.DNSName = name
		case demanded != "" && leaf.Subject.CommonName != demanded:
			return fmt.Errorf("the certificate of %s is that of %q, wanted %q", host, leaf.Subject.CommonName, demanded)
		}
		_, err := leaf.Verify(o)
		return err
	}
	return out
}

// namesHosts reports whether a certificate says which hosts it is for. The DNS name of those of ovs-pki is their subject's, with a space and a
// number, which no host has.
func namesHosts(leaf *x509.Certificate) bool {
	return len(leaf.IPAddresses) > 0 || slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return !strings.ContainsAny(n, " :") })
}

// probe asks whether flows can be put into our bridge, before anything is planned on it; nil when they can, or when nothing speaks against
// it. A bridge that is not there yet listens nowhere: then the host must at least refuse the connection, and not stay silent.
func (p *Platform) probe(ctx context.Context, d *db) error {
	if !p.cfg.networked() {
		return nil
	}
	if strings.HasPrefix(p.cfg.OpenFlow, "ssl:") && d.root().UUID("ssl") == "" {
		return errors.New("the switch has no certificate: give it one (ovs-vsctl set-ssl KEY CERT CA)")
	}
	for _, b := range sortedRows(d.tables["Bridge"]) {
		if m := markOf(b); m.Owner != "" && b.Text("name") == p.ourBridge(m.Owner, b.Text("datapath_type")) && len(b.UUIDs("controller")) > 0 {
			return d.flowErr[b.Text("name")]
		}
	}
	p.probeMu.Lock()
	defer p.probeMu.Unlock()
	if time.Since(p.probed) < lookEvery {
		return p.probeErr
	}
	_, address := p.flowsAt("x")
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	switch {
	case err == nil:
		_ = c.Close()
		err = fmt.Errorf("somebody else listens at %s", address)
	case errors.Is(err, syscall.ECONNREFUSED):
		err = nil
	}
	p.probed, p.probeErr = time.Now(), err
	return err
}

// way is what makes OpenFlow reach a bridge, for refusals.
func (p *Platform) way() string {
	scheme, host := "ssl", "HOST"
	if s, address, ok := strings.Cut(p.cfg.Address, ":"); ok && s != "unix" {
		scheme = s
		if h, _, err := net.SplitHostPort(address); err == nil {
			host = h
		} else {
			host = strings.Trim(address, "[]")
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	}
	return fmt.Sprintf("say where our bridge shall take OpenFlow (openflow: %s:%s:%s): it then listens there; without it there are copies without filter, slice and lease to one destination", scheme, host, flowPort)
}
