//go:build linux

package linux

import (
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strings"

	"crosstap/internal/control/platform"
)

// Limits of the kernel.
const (
	maxAlias = 255 // IFALIASZ without its end
	maxName  = 15  // IFNAMSIZ without its end
)

// hash gives 64 bits of a list of words.
func hash(words ...string) uint64 {
	h := fnv.New64a()
	for _, w := range words {
		_, _ = h.Write([]byte(w))
		_, _ = h.Write([]byte{0})
	}
	// FNV alone leaves similar words close together in the upper bits.
	x := h.Sum64()
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

// deviceName is a name for a device of ours: 30 bits of a hash behind the prefix.
func deviceName(words ...string) string {
	sum := binary.BigEndian.AppendUint64(nil, hash(words...))
	return platform.MarkPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(sum))[:maxName-len(platform.MarkPrefix)]
}

// carrierName is the device that carries a session's mark.
func carrierName(m platform.Mark) string { return deviceName("session", m.Owner, m.Key()) }

// tunnelName is the device through which an owner's copies reach an address.
func tunnelName(owner string, o platform.Output) string {
	return deviceName("tunnel", owner, tunnelKey(o))
}

// tunnelKey is all that tells one tunnel from another.
func tunnelKey(o platform.Output) string {
	port := o.UDP
	if o.Encap == platform.EncapVXLAN || o.Encap == platform.EncapGeneve {
		port = udpPort(o)
	}
	return fmt.Sprintf("%s %s port %d key %d dscp %d", o.Encap, o.Addr.Unmap().WithZone(""), port, o.Key, o.DSCP)
}

// tunnelAlias is the alias of a tunnel device: whose it is, and what it was made for.
func tunnelAlias(owner string, o platform.Output) string {
	return fmt.Sprintf("%s tunnel owner=%s to %s", platform.MarkKey, owner, tunnelKey(o))
}

// carrierAlias is the alias of a carrier.
func carrierAlias(m platform.Mark) string { return platform.MarkKey + " " + m.Text() }

// handleOf is the handle of a session's filters. Handles of cls_bpf have 31 bits.
func handleOf(m platform.Mark) uint32 { return uint32(hash("filter", m.Owner, m.Key()))&0x7fffffff | 1 }

// cookie is what the action of a filter of ours carries: "ctap", 32 bits of a hash of the owner, 32 of owner and session, and flags.
type cookie struct {
	owner, session uint32
	qdisc          bool // the clsact qdisc was made for us
}

const (
	cookieMagic = 0x63746170 // "ctap"
	cookieLen   = 16         // TC_COOKIE_MAX_SIZE
	cookieQdisc = 1
)

func cookieOf(m platform.Mark, qdisc bool) cookie {
	return cookie{ownerHash(m.Owner), uint32(hash("session", m.Owner, m.Key())), qdisc}
}

func ownerHash(owner string) uint32 { return uint32(hash("owner", owner)) }

func (c cookie) String() string {
	var flags uint32
	if c.qdisc {
		flags = cookieQdisc
	}
	return fmt.Sprintf("%08x%08x%08x%08x", uint32(cookieMagic), c.owner, c.session, flags)
}

// parseCookie reads the text of a cookie; false for one that is not ours.
func parseCookie(s string) (c cookie, ours bool) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return c, false
	}
	return cookieFrom(b)
}

// cookieFrom reads a cookie; false for one that is not ours.
func cookieFrom(b []byte) (c cookie, ours bool) {
	if len(b) != cookieLen || binary.BigEndian.Uint32(b) != cookieMagic {
		return c, false
	}
	return cookie{binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])&cookieQdisc != 0}, true
}
