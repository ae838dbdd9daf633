package capture

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/frame"
	"crosstap/internal/urlopt"
)

// Encap is how a remote mirror wraps its copies.
type Encap uint8

// The encapsulations.
const (
	EncapVXLAN  Encap = iota // with its extensions for policies and for other protocols
	EncapGeneve              //
	EncapUDP                 // a frame is the payload of a datagram
	EncapTZSP                //
	EncapGRE                 // but for ERSPAN
	EncapERSPAN              // types I, II and III
)

// encaps are the encapsulations by the scheme of an endpoint, with the port where one is usual and the name of the number that
// tells the copies of a sender apart.
var encaps = []struct {
	scheme  string
	port    uint16 // 0: one must be given, or there is none
	session string // "" for none
	max     uint64
}{
	{"vxlan", 4789, "vni", 1<<24 - 1}, {"geneve", 6081, "vni", 1<<24 - 1}, {"udp", 0, "", 0}, {"tzsp", 37008, "", 0},
	{"gre", 0, "key", 1<<32 - 1}, {"erspan", 0, "session", 1<<10 - 1},
}

// String returns the scheme.
func (e Encap) String() string { return encaps[e].scheme }

// raw reports whether the encapsulation is directly over IP.
func (e Encap) raw() bool { return e >= EncapGRE }

// ListenSchemes returns the schemes of endpoints.
func ListenSchemes() (names []string) {
	for _, e := range encaps {
		names = append(names, e.scheme)
	}
	return names
}

// Endpoint is where copies of remote mirrors arrive.
type Endpoint struct {
	Encap    Encap
	Addr     netip.Addr // of this host; invalid for all
	Port     uint16     // 0 over IP
	Sessions []uint32   // sessions, VNIs or keys wanted; nil for all
	From     []netip.Prefix
	Link     frame.LinkType // of the payload of EncapUDP
	// SenderTime takes the time stamps of ERSPAN type III for the frames' times.
	SenderTime bool
}

// ParseEndpoint reads vxlan://[ADDR][:PORT]?vni=N,N&from=PREFIX and the like.
func ParseEndpoint(text string) (Endpoint, error) {
	fail := func(format string, args ...any) (Endpoint, error) {
		return Endpoint{}, fmt.Errorf("listen %s: %s", text, fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(text)
	if err != nil {
		return fail("%v", err.(*url.Error).Err)
	}
	i := slices.Index(ListenSchemes(), u.Scheme)
	if i < 0 {
		return fail("scheme %q: want %s://", u.Scheme, strings.Join(ListenSchemes(), "://, "))
	}
	e := Endpoint{Encap: Encap(i), Link: frame.LinkEthernet}
	if u.User != nil || u.Path != "" && u.Path != "/" || u.Fragment != "" || u.Opaque != "" {
		return fail("want %s://[ADDRESS]%s[?OPTIONS]", u.Scheme, map[bool]string{false: "[:PORT]"}[e.Encap.raw()])
	}
	if err := e.where(u.Hostname(), u.Port()); err != nil {
		return fail("%v", err)
	}
	if err := e.options(u.RawQuery); err != nil {
		return fail("%v", err)
	}
	return e, nil
}

func (e *Endpoint) where(host, port string) error {
	e.Port = encaps[e.Encap].port
	if host != "" && host != "*" {
		a, err := netip.ParseAddr(host)
		if err != nil {
			return fmt.Errorf("address %q: want one of this host's IP addresses, or none for all", host)
		}
		e.Addr = a.Unmap()
	}
	switch {
	case e.Encap.raw() && port != "":
		return fmt.Errorf("port %s: %s is directly over IP and has none", port, e.Encap)
	case e.Encap.raw() || port == "" && e.Port != 0:
		return nil
	case port == "":
		return fmt.Errorf("no port: give one, as in %s://:5555", e.Encap)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("port %q: want 1 to 65535", port)
	}
	e.Port = uint16(n)
	return nil
}

// options reads the query. Sessions and senders may be given again, or with commas between.
func (e *Endpoint) options(query string) error {
	known := []string{"from"}
	if session := encaps[e.Encap].session; session != "" {
		known = append(known, session)
	}
	switch e.Encap {
	case EncapUDP:
		known = append(known, "link")
	case EncapERSPAN:
		known = append(known, "time")
	}
	err := urlopt.Each(query, known, func(name, list string) error {
		for v := range strings.SplitSeq(list, ",") {
			if err := e.option(name, v); err != nil {
				return err
			}
		}
		return nil
	})
	slices.Sort(e.Sessions)
	return err
}

func (e *Endpoint) option(name, v string) error {
	switch name {
	case "from":
		p, err := prefix(v)
		if err != nil {
			return errors.New("want an address or a prefix of senders")
		}
		e.From = append(e.From, p)
	case "link":
		switch v {
		case "ethernet":
			e.Link = frame.LinkEthernet
		case "raw":
			e.Link = frame.LinkRaw
		default:
			return errors.New("want ethernet, or raw for IP packets")
		}
	case "time":
		if v != "sender" && v != "receiver" {
			return errors.New("want sender, or receiver")
		}
		e.SenderTime = v == "sender"
	default:
		n, err := strconv.ParseUint(v, 0, 32)
		if most := encaps[e.Encap].max; err != nil || n > most {
			return fmt.Errorf("want 0 to %d", most)
		}
		e.Sessions = append(e.Sessions, uint32(n))
	}
	return nil
}

func prefix(v string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(v); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(v)
	return p.Masked(), err
}

// String returns the endpoint as it is given on a command line, without its options.
func (e Endpoint) String() string {
	host := ""
	if e.Addr.IsValid() {
		host = e.Addr.String()
	}
	if !e.Encap.raw() {
		return e.Encap.String() + "://" + net.JoinHostPort(host, strconv.Itoa(int(e.Port)))
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return e.Encap.String() + "://" + host
}

// wants reports whether a sender's copies of a session are taken. One without a session is of session 0.
func (e *Endpoint) wants(session uint32) bool {
	if len(e.Sessions) == 0 {
		return true
	}
	_, ok := slices.BinarySearch(e.Sessions, session)
	return ok
}

func (e *Endpoint) accepts(from netip.Addr) bool {
	if len(e.From) == 0 {
		return true
	}
	return slices.ContainsFunc(e.From, func(p netip.Prefix) bool { return p.Contains(from) })
}
