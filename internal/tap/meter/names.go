package meter

// names holds each name that flows tell once, whatever the number of flows. Numbers begin at 1; 0 is no name.
type names struct {
	numbers map[string]uint32
	all     []name
	free    []uint32
	bytes   int
}

type name struct {
	text string
	uses uint32
}

const (
	maxNames      = 1<<24 - 1
	maxNameBytes  = 16 << 20 // of all names together, of one worker
	nameOverheads = 64       // of a name beside its bytes, for that sum
)

func newNames() names { return names{numbers: map[string]uint32{}, all: make([]name, 1)} }

// take returns the number of a name that has one more use, 0 when there is no room for it. Only a name that is not there yet allocates.
func (n *names) take(b []byte) uint32 {
	if number, ok := n.numbers[string(b)]; ok {
		n.all[number].uses++
		return number
	}
	if n.bytes+len(b)+nameOverheads > maxNameBytes {
		return 0
	}
	text := string(b)
	var number uint32
	if l := len(n.free); l > 0 {
		number, n.free = n.free[l-1], n.free[:l-1]
	} else if len(n.all) <= maxNames {
		number = uint32(len(n.all))
		n.all = append(n.all, name{})
	} else {
		return 0
	}
	n.all[number] = name{text, 1}
	n.numbers[text] = number
	n.bytes += len(b) + nameOverheads
	return number
}

// give takes one use of a name back.
func (n *names) give(number uint32) {
	if number == 0 {
		return
	}
	at := &n.all[number]
	if at.uses--; at.uses > 0 {
		return
	}
	n.bytes -= len(at.text) + nameOverheads
	delete(n.numbers, at.text)
	at.text = ""
	n.free = append(n.free, number)
}

func (n *names) text(number uint32) string { return n.all[number].text }
