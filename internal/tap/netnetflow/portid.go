package netnetflow

import "fmt"

// The interface identifiers of -p: 7 bits of switch, 9 bits of port (the manual of net-netflow says bytes, and means bits). Port 13
// of switch 3 is 3·512 + 13 = 1549; the manual's example has this number, but calls the switch 2.
const (
	portBits    = 9
	MaxPort     = 1<<portBits - 1
	MaxSwitchID = 1<<(16-portBits) - 1 // with -p
	maxEngine   = 255                  // without: engine type and id have 8 bits each
)

// Port numbers that Open vSwitch reserves (OpenFlow 1.0, enum ofp_port): of its own interface, and the least of all of them.
const (
	ofLocal    = 0xfffe
	ofReserved = 0xff00
)

// PortID returns the identifier of a switch's port. Open vSwitch's local port is 510, as its own NetFlow exporter has it.
func PortID(switchID int, port uint32) (uint16, error) {
	if switchID < 0 || switchID > MaxSwitchID {
		return 0, fmt.Errorf("switch number %d does not fit into 7 bits (0 to %d)", switchID, MaxSwitchID)
	}
	if port == ofLocal {
		port &= MaxPort
	}
	if port > MaxPort {
		return 0, fmt.Errorf("port number %d does not fit into 9 bits (0 to %d)", port, MaxPort)
	}
	return uint16(switchID)<<portBits | uint16(port), nil
}
