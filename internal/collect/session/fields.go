package session

import (
	"slices"
	"strconv"

	"crosstap/internal/flowproto"
	"crosstap/internal/ie"
)

// fields is what the templates of an exporter's domain can tell.
type fields struct {
	unknown []string // elements without a name
	have    uint32   // set of the needs below
}

const maxUnknown = 32

// What reports need of a record.
const (
	needAddresses = 1 << iota
	needCounters
	needPorts
	needTimes
	needMACs
	needSegment
	needInterfaces
	needVTEPs
	needApp
	needTCP
	needRule
)

// provides lists which elements give what is needed.
var provides = map[uint64]uint32{
	8: needAddresses, 27: needAddresses, 1: needCounters, 85: needCounters, 23: needCounters, 352: needCounters, 7: needPorts, 180: needPorts, 182: needPorts,
	21: needTimes, 150: needTimes, 152: needTimes, 154: needTimes, 156: needTimes, 158: needTimes,
	56: needMACs, 80: needMACs, 58: needSegment, 243: needSegment, 351: needSegment, 10: needInterfaces, 14: needInterfaces, 82: needInterfaces,
	95: needApp, 96: needApp, 6: needTCP, 233: needRule,
	vmware | 880: needAddresses, vmware | 881: needAddresses | needVTEPs, vmware | 883: needAddresses | needVTEPs, vmware | 892: needSegment, vmware | 893: needVTEPs, vmware | 950: needRule,
	frame: needAddresses | needCounters | needPorts | needMACs | needSegment, frame9: needAddresses | needCounters | needPorts | needMACs | needSegment,
}

const (
	vmware = uint64(ie.VMware) << 16
	frame  = 315
	frame9 = 104
)

// reports are what can be fed, with what each needs.
var reports = [...]struct {
	name string
	need uint32
}{
	{"pairs", needAddresses | needCounters}, {"conversations", needAddresses | needCounters | needPorts}, {"series", needCounters | needTimes},
	{"tenants", needAddresses | needCounters | needSegment}, {"vteps", needVTEPs}, {"machines by MAC", needMACs | needCounters},
	{"interfaces", needInterfaces | needCounters}, {"applications by the exporter", needApp}, {"tcp", needTCP}, {"firewall rules", needRule},
}

// fixed is what protocols without templates always tell.
func fixed(p flowproto.Protocol) uint32 {
	const v5 = needAddresses | needCounters | needPorts | needTimes | needInterfaces | needTCP
	switch p {
	case flowproto.NetFlow1, flowproto.NetFlow5, flowproto.NetFlow6, flowproto.NetFlow7:
		return v5
	case flowproto.SFlow:
		return needAddresses | needCounters | needPorts | needMACs | needSegment | needInterfaces | needTCP | needTimes | needVTEPs
	}
	return 0
}

// feeds names the reports that the fields are enough for.
func (f *fields) feeds(p flowproto.Protocol) (out []string) {
	have := f.have | fixed(p)
	for _, r := range reports {
		if have&r.need == r.need {
			out = append(out, r.name)
		}
	}
	return out
}

// maxLooked is how many fields of a template are looked at.
const maxLooked = 512

// traits are what one template shows of its exporter.
type traits struct{ options, exportRole bool }

// see takes in a template.
func (f *fields) see(t *flowproto.Template) (k traits) {
	k.options = t.Options()
	for _, x := range t.Fields[:min(len(t.Fields), maxLooked)] {
		f.have |= provides[uint64(x.PEN)<<16|uint64(x.ID)]
		k.exportRole = k.exportRole || x.PEN == ie.VMware && x.ID == elExportRole
		if _, ok := x.Element(); !ok {
			f.miss(strconv.FormatUint(uint64(x.PEN), 10) + "/" + strconv.Itoa(int(x.ID)))
		}
	}
	return k
}

func (f *fields) miss(name string) {
	if len(f.unknown) < maxUnknown && !slices.Contains(f.unknown, name) {
		f.unknown = append(f.unknown, name)
	}
}

// samplesSilently reports whether templates are those of VMware's distributed switch, which samples, by default one packet
// in 4096, and does not tell: it has no options template at all.
func samplesSilently(all map[*flowproto.Template]traits) (yes bool) {
	for _, k := range all {
		if k.options {
			return false
		}
		yes = yes || k.exportRole
	}
	return yes
}

// elExportRole is vxlanExportRole, which only the distributed switch sends.
const elExportRole = 889
