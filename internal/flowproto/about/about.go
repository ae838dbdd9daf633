// Package about is what an exporting process tells of itself and of where it observes, whatever the format: in IPFIX and
// NetFlow v9 these are the records of options templates.
package about

import "time"

// Exporter is what is told at one moment. Whatever is empty is left out.
type Exporter struct {
	Process    uint32 // that identifies the exporting process on its host
	NotSent    Counts // what it had to drop since it started
	Sent       Sent
	Ignored    *Counts // what the metering process did not meter since it started
	Packets    Sampling
	Flows      uint32 // one flow in so many is told, 0 and 1 for all
	Domain     string // name of the observation domain: the switch
	Points     []Point
	Interfaces []Interface
	VRFs       []VRF
	From, To   time.Time // the interval of Stages
	Stages     []Stage
}

// Counts are totals.
type Counts struct{ Flows, Packets, Octets uint64 }

// Sent is what left the exporting process since it started.
type Sent struct{ Messages, Octets, Flows uint64 }

// Sampling is how packets are chosen before they are metered.
type Sampling struct {
	Interval uint32 // one in so many; 0 and 1 for all
	Random   bool
}

// Point is an observation point.
type Point struct {
	ID      uint64
	IfIndex uint32 // 0 for none
	Name    string // of the interface of the virtual machine, or of the place
	Switch  string // the virtual switch that it is a port of
}

// Interface is an interface that records name by its index.
type Interface struct {
	Index             uint32
	Name, Description string
}

// VRF is a routing table of its own.
type VRF struct {
	ID   uint32
	Name string
}

// Stage is the account of one stage of the line: in total since it started and, of the fields with a delta, within the
// interval. What came in is what went out, what was dropped and what the stage holds.
type Stage struct {
	Name               string // stage and unit
	In, Out            uint64
	InDelta, DropDelta uint64
	Dropped            []Dropped
}

// Dropped is what a stage dropped for one reason.
type Dropped struct {
	Reason       string
	Total, Delta uint64
}

// Rate returns the one packet in so many that a told record stands for: sampling of packets and of flows together. What is summed
// over the flows that were chosen, and multiplied by it, is the expected sum over all.
func Rate(x *Exporter) uint32 {
	return uint32(min(uint64(max(x.Packets.Interval, 1))*uint64(max(x.Flows, 1)), 1<<32-1))
}
