package ipfix

import "time"

// NotSent is what an exporting process had to drop since it started.
type NotSent struct{ Flows, Packets, Octets uint64 }

// reportID is the identifier of the options template of Report, above those of all shapes.
const reportID = 1024

// reportTemplate is the "Exporting Process Reliability Statistics" of RFC 7011, section 4.3: scope
// exportingProcessId, then the three totals.
var reportTemplate = []uint16{reportID, 4, 1, 144, 4, 166, 8, 167, 8, 168, 8}

// Report sends a message that tells what was not sent, with its options template. process identifies the exporting
// process on its host. The message in the making is finished first.
func (e *Encoder) Report(process uint32, n NotSent, now time.Time, emit func(msg []byte, records int) error) error {
	err := e.Flush(now, emit)
	e.openSet(setOptionsTemplate)
	for _, v := range reportTemplate {
		e.buf = put16(e.buf, v)
	}
	e.openSet(reportID)
	e.buf = put32(e.buf, process)
	for _, v := range []uint64{n.Flows, n.Packets, n.Octets} {
		e.buf = put64(e.buf, v)
	}
	err = first(err, e.Flush(now, emit))
	e.seq++ // option records are data records, too; the number is that before the message
	return err
}
