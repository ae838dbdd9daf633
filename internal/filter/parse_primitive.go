package filter

// identifier reports whether t can be an identifier rather than a keyword.
func (p *parser) identifier(t token) bool {
	switch t.kind {
	case tokNumber, tokIPv4, tokIPv6, tokMAC, tokAddr8:
		return true
	case tokWord:
		return t.escaped || !keyword(t.text)
	}
	return false
}

// id reads one identifier, or several in parentheses, under the qualifiers q.
func (p *parser) id(q qual) (expr, error) {
	p.last = q
	t := p.peek()
	if p.word("not") || p.op("!") {
		x, err := p.id(q)
		if err != nil {
			return nil, err
		}
		return &negation{span{t.pos, t.end - t.pos}, x}, nil
	}
	if t.kind == tokOp && t.text == "(" {
		if err := p.enter(t); err != nil {
			return nil, err
		}
		defer func() { p.deep-- }()
		return p.parens(true)
	}
	if !p.identifier(t) {
		return nil, p.unexpected(t, q.kind.wants())
	}
	p.take()
	x := &primitive{span: span{t.pos, t.end - t.pos}, q: q, id: t}
	if q.kind != kindPort && q.kind != kindPortRange && (t.kind == tokIPv4 || t.kind == tokNumber || t.kind == tokIPv6) {
		if err := p.mask(x); err != nil {
			return nil, err
		}
	}
	if q.kind == kindPortRange {
		if t := p.peek(); p.op("-") {
			if x.to = p.take(); x.to.kind != tokNumber && x.to.kind != tokWord {
				return nil, p.unexpected(x.to, "the last port of the range")
			}
			x.by = t.text
		}
	}
	return x, nil
}

// mask reads "/LEN" or "mask M" behind a network.
func (p *parser) mask(x *primitive) error {
	switch {
	case p.op("/"):
		x.by = "/"
		if x.to = p.take(); x.to.kind != tokNumber {
			return p.unexpected(x.to, "a prefix length")
		}
	case x.q.kind == kindNet && p.word("mask", "netmask"):
		x.by = "mask"
		if x.to = p.take(); x.to.kind != tokIPv4 {
			return p.unexpected(x.to, "a mask such as 255.255.255.0")
		}
	}
	return nil
}

func (k kind) wants() string {
	switch k {
	case kindPort, kindPortRange:
		return "a port number or a service name"
	case kindProto, kindProtoChain:
		return "a protocol number or an escaped name such as \\tcp"
	case kindNet:
		return "a network such as 10.0.0.0/8"
	}
	return "an address or a name"
}

// qualified: [proto] [dir] [type] identifier, or a protocol alone.
func (p *parser) qualified() (expr, error) {
	start := p.peek()
	var q qual
	if pr, ok := protoWords[start.text]; ok && start.kind == tokWord && !start.escaped {
		q.proto = pr
		p.take()
	}
	q.dir = p.direction()
	switch t := p.peek(); {
	case p.word("host"):
		q.kind = kindHost
	case p.word("net"):
		q.kind = kindNet
	case p.word("port"):
		q.kind = kindPort
	case p.word("portrange"):
		q.kind = kindPortRange
	case q.dir == dirDefault && p.word("gateway"):
		q.kind = kindGateway
	case q.dir == dirDefault && p.word("proto"):
		q.kind = kindProto
	case q.dir == dirDefault && p.word("protochain"):
		q.kind = kindProtoChain
	case q.proto != protoDefault && q.dir == dirDefault && !p.identifier(t) && !(t.kind == tokOp && (t.text == "(" || t.text == "!") || t.is("not")):
		return &bare{span{start.pos, start.end - start.pos}, q.proto}, nil
	case q == qual{}:
		return nil, p.unexpected(t, "a filter term such as host, net, port, tcp or vxlan")
	}
	return p.id(q)
}

// wlanDirections are the words for single addresses of an 802.11 header.
var wlanDirections = map[string]dir{"ra": dirRA, "ta": dirTA, "addr1": dirAddr1, "address1": dirAddr1, "addr2": dirAddr2, "address2": dirAddr2,
	"addr3": dirAddr3, "address3": dirAddr3, "addr4": dirAddr4, "address4": dirAddr4}

// direction: src | dst | src or dst | src and dst, in either order.
func (p *parser) direction() dir {
	t := p.peek()
	if d, ok := wlanDirections[t.text]; ok && t.is(t.text) {
		p.take()
		return d
	}
	if !t.is("src", "dst") {
		return dirDefault
	}
	p.take()
	other := map[string]string{"src": "dst", "dst": "src"}[t.text]
	op := p.peek()
	if p.peekAt(1).is(other) && (op.is("or", "and") || op.kind == tokOp && (op.text == "||" || op.text == "&&")) {
		p.i += 2
		if op.text == "or" || op.text == "||" {
			return dirOr
		}
		return dirAnd
	}
	if t.text == "src" {
		return dirSrc
	}
	return dirDst
}
