package flowproto

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

// logstashNames are the names that logstash's codec gives NetFlow's fields.
var logstashNames = map[string]string{
	"app_id": "panAppId", "application_name": "applicationName", "application_description": "applicationDescription",
	"bgp_ipv4_next_hop": "bgpNextHopIPv4Address", "conn_id": "flowId", "direction": "flowDirection", "dst_as": "bgpDestinationAsNumber",
	"dst_mask": "destinationIPv4PrefixLength", "dst_vlan": "postVlanId", "src_vlan": "vlanId", "egressPhysicalInterface": "egressPhysicalInterface",
	"egressVRFID": "egressVRFID", "ingressVRFID": "ingressVRFID", "engine_id": "engineId", "engine_type": "engineType",
	"ethernetType": "ethernetType", "event_time_msec": "observationTimeMilliseconds",
	"flowEndSeconds": "flowEndSeconds", "flowStartSeconds": "flowStartSeconds", "flow_active_timeout": "flowActiveTimeout",
	"flow_end_reason": "flowEndReason", "flow_inactive_timeout": "flowIdleTimeout", "flow_sampler_id": "samplerId",
	"flow_start_msec": "flowStartMilliseconds", "fw_event": "firewallEvent|asaFirewallEvent", "fw_ext_event": "asaFirewallExtendedEvent",
	"fwd_flow_delta_bytes": "initiatorOctets", "rev_flow_delta_bytes": "responderOctets", "icmp_code": "icmpCodeIPv4", "icmp_type": "icmpTypeIPv4|icmpTypeCodeIPv4",
	"in_bytes": "octetDeltaCount", "in_pkts": "packetDeltaCount", "in_permanent_bytes": "octetTotalCount",
	"in_dst_mac": "destinationMacAddress", "in_src_mac": "sourceMacAddress", "out_dst_mac": "postDestinationMacAddress", "out_src_mac": "postSourceMacAddress",
	"ingressPhysicalInterface": "ingressPhysicalInterface", "input_snmp": "ingressInterface", "output_snmp": "egressInterface", "ip_dscp": "ipDiffServCodePoint",
	"ip_protocol_version": "ipVersion", "ipv4_dst_addr": "destinationIPv4Address", "ipv4_src_addr": "sourceIPv4Address",
	"ipv4_next_hop": "ipNextHopIPv4Address", "ipv4_ident": "fragmentIdentification",
	"l4_dst_port": "destinationTransportPort", "l4_src_port": "sourceTransportPort", "nprobe_proto": "l7Proto",
	"out_bytes": "postOctetDeltaCount", "out_pkts": "postPacketDeltaCount", "protocol": "protocolIdentifier",
	"sampling_algorithm": "samplingAlgorithm", "sampling_interval": "samplingInterval", "scope_system": "scopeSystem", "src_as": "bgpSourceAsNumber",
	"src_mask": "sourceIPv4PrefixLength", "src_tos": "ipClassOfService", "tcp_src_port": "tcpSourcePort", "udp_dst_port": "udpDestinationPort",
	"tcp_flags": "tcpControlBits", "total_bytes_exp": "exportedOctetTotalCount", "total_flows_exp": "exportedFlowRecordTotalCount",
	"total_pkts_exp": "exportedMessageTotalCount", "user_id": "panUserId", "username": "asaUserName",
	"xlate_dst_addr_ipv4": "postNATDestinationIPv4Address|asaXlateDestinationIPv4Address", "xlate_src_addr_ipv4": "postNATSourceIPv4Address|asaXlateSourceIPv4Address",
	"xlate_dst_port": "postNAPTDestinationTransportPort|asaXlateDestinationPort", "xlate_src_port": "postNAPTSourceTransportPort|asaXlateSourcePort",
	"VRFname": "VRFname", "if_desc": "interfaceDescription", "privateEnterpriseNumber": "privateEnterpriseNumber", "tcpOptions": "tcpOptions",
	"first_switched": "flowStartSysUpTime", "last_switched": "flowEndSysUpTime", "flow_seq_num": "", "flowset_id": "", "version": "",
}

// golden is what a file under expected lists.
type golden struct {
	Files  []string                           `json:"files_in_order"`
	Events []struct{ Netflow map[string]any } `json:"expected_events_listed"`
}

// shown is one record: its fields by name, and its times as Decode would tell them.
type shown struct {
	fields     map[string][]string
	start, end int64
	template   uint16
	sequence   uint32
}

func show(it *Item) shown {
	s := shown{fields: map[string][]string{}, template: it.ID, sequence: it.Sequence}
	for v := range it.Fields() {
		s.fields[v.Name()] = append(s.fields[v.Name()], v.Text())
	}
	if r, ok := it.Flow(); ok {
		s.start, s.end = r.StartNS, r.EndNS
		if it.Protocol == NetFlow5 {
			s.fields["engineType"], s.fields["engineId"] = []string{strconv.Itoa(int(r.Domain >> 8))}, []string{strconv.Itoa(int(r.Domain & 255))}
			s.fields["samplingInterval"] = []string{strconv.Itoa(int(r.Sampling))}
		}
	}
	return s
}

// Every NetFlow case of logstash's codec: how many records, and each listed event field for field.
func TestLogstashNetFlow(t *testing.T) {
	dir := testkit.Corpus(t, "collect/logstash-codec-netflow")
	f := func(name string, records, options, least int, problem string) {
		t.Helper()
		var g golden
		b, err := os.ReadFile(filepath.Join(dir, "expected", name+".json"))
		if err == nil {
			err = json.Unmarshal(b, &g)
		}
		if err != nil {
			t.Fatal(err)
		}
		walk, dec := NewSession(Limits{}), NewSession(Limits{})
		var got []shown
		var recs []flow.Record
		n, opts, text := 0, 0, ""
		for _, file := range g.Files {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if os.IsNotExist(err) {
				continue // the corpus left one out
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = walk.Walk(b, 0, func(it *Item) {
				if it.Kind == KindRecord || it.Kind == KindOption {
					got = append(got, show(it))
				}
			})
			if err != nil {
				text = err.Error()
			}
			var res Result
			recs, res, _ = dec.Decode(b, 1, recs)
			n, opts = n+res.Records, opts+res.OptionRecords
		}
		if n != records || opts != options || len(recs) < records || text != problem {
			t.Errorf("%s: %d records and %d options, want %d and %d; problem %q, want %q", name, n, opts, records, options, text, problem)
		}
		compared := 0
		for i, e := range g.Events {
			if len(e.Netflow) == 0 {
				continue
			}
			best, why := -1, ""
			for _, s := range got {
				if c, w := agree(e.Netflow, s); c > best || c == best && w == "" {
					best, why = c, w
				}
			}
			if why == "template" && name == "netflow-9-multiple-netflow-exporters" {
				continue // of the file that the corpus left out
			}
			if why != "" {
				t.Errorf("%s: event %d differs from our record that is nearest: %s", name, i, why)
			}
			compared += max(best, 0)
		}
		if compared < least {
			t.Errorf("%s: compared only %d fields", name, compared)
		}
	}
	f("juniper-srx-options-template-with-0-scope-field-length", 0, 1, 2, "")
	f("netflow-5-invalid-01", 0, 0, 0, "netflow5: message: its count needs 2667960 bytes, 1464 there")
	f("netflow-9-cisco-1941-k9-release-15-1", 29, 0, 0, "")
	f("netflow-9-cisco-aci", 3, 0, 14, "")
	f("netflow-9-cisco-asa-2", 19, 0, 17, "")
	f("netflow-9-cisco-asa", 14, 0, 15, "")
	f("netflow-9-cisco-asr-9000-series-options-template-256", 0, 19, 3, "")
	f("netflow-9-cisco-asr-9000-series-template-260", 21, 0, 18, "")
	f("netflow-9-cisco-asr1001-x", 25, 0, 0, "")
	f("netflow-9-cisco-nbar-flowset-262", 5, 0, 11, "")
	f("netflow-9-cisco-nbar-options-template-260", 0, 15, 3, "")
	f("netflow-9-fortigate-fortios-5-2-1", 1, 1, 20, "")
	f("netflow-9-fortigate-fortios-54x-appid", 17, 0, 16, "")
	f("netflow-9-h3c-netstream-with-varstring", 1, 0, 10, "")
	f("netflow-9-h3c", 16, 0, 20, "")
	f("netflow-9-ie150-ie151", 2, 0, 16, "")
	f("netflow-9-invalid-01", 0, 0, 0, "netflow9: set 1 at offset 140: the header's count ends before it")
	f("netflow-9-ipt-netflow-reduced-size-encoding", 12, 0, 18, "")
	f("netflow-9-macaddress", 29, 1, 7, "")
	f("netflow-9-multiple-netflow-exporters", 1, 1, 7, "")
	f("netflow-9-nprobe-dpi-l7", 1, 0, 10, "")
	f("netflow-9-options-template-with-scope-fields", 0, 1, 3, "")
	f("netflow-9-palo-alto-pan-os-with-app-id", 8, 0, 15, "")
	f("netflow-9-streamcore", 4, 0, 30, "")
	f("netflow-9-template-with-0-length-fields", 10, 0, 16, "")
	f("netflow-9-ubiquiti-edgerouter-with-mpls-labels", 16, 0, 18, "")
	f("netflow-9-valid-01", 7, 0, 14, "")
	f("netflow5-juniper-mx80", 29, 0, 15, "")
	f("netflow5-mikrotik", 30, 0, 15, "")
}

// agree counts the fields of an event that a record has, and says which one differs, "" for none.
func agree(event map[string]any, s shown) (n int, why string) {
	if id, ok := event["flowset_id"]; ok && id != float64(s.template) {
		return 0, "template"
	}
	if q, ok := event["flow_seq_num"]; ok && q != float64(s.sequence) {
		return 0, "sequence"
	}
	for name, want := range event {
		ours, ok := logstashNames[name]
		if !ok || ours == "" {
			continue
		}
		var values []string
		for alias := range strings.SplitSeq(ours, "|") {
			values = append(values, s.fields[alias]...)
		}
		switch name {
		case "sampling_algorithm":
			if event["version"] == 5.0 {
				continue // the mode in the header is not kept
			}
		case "first_switched":
			values = logstashTimes(s.start)
		case "last_switched":
			values = logstashTimes(s.end)
		}
		switch {
		case len(values) == 0:
			why += " no " + ours + ";"
		case !sameValue(want, values):
			why += fmt.Sprintf(" %s is %s, logstash has %v;", name, strings.Join(values, ","), want)
		default:
			n++
		}
	}
	return n, why
}

// logstashTimes are the ways in which logstash tells a time made of uptimes. When the milliseconds have to be borrowed from a
// second, it does not take the second: it is then late by one. Some of its goldens have no digits behind the second, or 999.
func logstashTimes(ns int64) (all []string) {
	for _, late := range []int64{0, 1e9} {
		all = append(all, time.Unix(0, ns+late).UTC().Format("2006-01-02T15:04:05"))
	}
	return all
}

func sameValue(want any, got []string) bool {
	for _, g := range got {
		switch w := want.(type) {
		case float64:
			if v, err := strconv.ParseFloat(g, 64); err == nil && v == w {
				return true
			}
			if at, err := time.Parse("2006-01-02T15:04:05.999Z07:00", g); err == nil && (float64(at.UnixMilli()) == w || float64(at.Unix()) == w) {
				return true
			}
		case string:
			if g == strings.TrimRight(w, "\x00") || len(g) == 19 && strings.HasPrefix(w, g) {
				return true
			}
		}
	}
	return false
}
