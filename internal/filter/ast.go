package filter

// expr is a parsed expression: one of the types below.
type expr interface{ at() (pos, length int) }

type span struct{ pos, len int }

func (s span) at() (int, int) { return s.pos, s.len }

type (
	// logical is "and" or "or"; both bind alike, from the left.
	logical struct {
		span
		and  bool
		l, r expr
	}
	negation struct {
		span
		x expr
	}
	// primitive is qualifiers with an identifier: "tcp dst port 80".
	primitive struct {
		span
		q  qual
		id token
		to token // the second half of "net A/len", "net A mask M"
		by string
	}
	// bare is a protocol alone: "tcp".
	bare struct {
		span
		proto proto
	}
	// relation compares two arithmetic expressions.
	relation struct {
		span
		op   string
		l, r arith
	}
	// other is a keyword with its own arguments: "vlan 10", "greater 100", "broadcast".
	other struct {
		span
		word string
		q    qual
		args []token
		num  []uint32
		nums []span // where they stand
	}
	// level is "inner EXPR" or "outer EXPR".
	level struct {
		span
		inner bool
		x     expr
	}
)

// arith is an arithmetic expression.
type arith interface{ at() (int, int) }

type (
	number32 struct {
		span
		v uint32
	}
	packetLen struct{ span }
	// index is "proto [ off : size ]".
	index struct {
		span
		proto proto
		off   arith
		size  uint32
	}
	operation struct {
		span
		op   string
		l, r arith
	}
	minus struct {
		span
		x arith
	}
)

// dir is a direction qualifier.
type dir uint8

const (
	dirDefault dir = iota // src or dst
	dirSrc
	dirDst
	dirOr
	dirAnd
	dirRA // the addresses of an 802.11 header
	dirTA
	dirAddr1
	dirAddr2
	dirAddr3
	dirAddr4
)

// kind is a type qualifier.
type kind uint8

const (
	kindDefault kind = iota // host
	kindHost
	kindNet
	kindPort
	kindPortRange
	kindGateway
	kindProto
	kindProtoChain
)

type qual struct {
	proto proto
	dir   dir
	kind  kind
}
