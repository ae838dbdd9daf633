package sflow

import (
	"encoding/binary"
	"strings"
	"sync"

	"crosstap/internal/flowproto/decode"
	"crosstap/internal/ie"
)

// A structure is a list of columns in XDR. In the tables each column is a name and a type:
//
//	4 8      unsigned integer of so many bytes       f        float
//	ip4 ip6  address                                 a        address with its type before it
//	mac      six bytes in eight                      s o      text, bytes: with their length before them
//	uuid     sixteen bytes                           l        numbers: with their count before them
//	path     AS path segments
type structure struct {
	name    string
	columns []column
}

type column struct {
	element *ie.Element
	kind    string
}

const (
	ethernetColumns = "length:4 src_mac:mac dst_mac:mac type:4"
	ip4Columns      = "length:4 protocol:4 src_ip:ip4 dst_ip:ip4 src_port:4 dst_port:4 tcp_flags:4 tos:4"
	ip6Columns      = "length:4 protocol:4 src_ip:ip6 dst_ip:ip6 src_port:4 dst_port:4 tcp_flags:4 priority:4"
)

// The structures by enterprise<<12 | format. They are made of the tables when they are first asked for.
var (
	flowStructures    = sync.OnceValue(func() map[uint32]*structure { return structures(flowRows) })
	counterStructures = sync.OnceValue(func() map[uint32]*structure { return structures(counterRows) })
)

// flowRows are what an agent tells of a packet.
var flowRows = map[uint32][2]string{
	1:    {"sampled_header", "protocol:4 frame_length:4 stripped:4 header:o"},
	2:    {"sampled_ethernet", ethernetColumns},
	3:    {"sampled_ipv4", ip4Columns},
	4:    {"sampled_ipv6", ip6Columns},
	1001: {"extended_switch", "src_vlan:4 src_priority:4 dst_vlan:4 dst_priority:4"},
	1002: {"extended_router", "nexthop:a src_mask_len:4 dst_mask_len:4"},
	1003: {"extended_gateway", "nexthop:a as:4 src_as:4 src_peer_as:4 dst_as_path:path communities:l localpref:4"},
	1004: {"extended_user", "src_charset:4 src_user:s dst_charset:4 dst_user:s"},
	1005: {"extended_url", "direction:4 url:s host:s"},
	1006: {"extended_mpls", "nexthop:a in_stack:l out_stack:l"},
	1007: {"extended_nat", "src_address:a dst_address:a"},
	1008: {"extended_mpls_tunnel", "tunnel_lsp_name:s tunnel_id:4 tunnel_cos:4"},
	1009: {"extended_mpls_vc", "vc_instance_name:s vll_vc_id:4 vc_label_cos:4"},
	1010: {"extended_mpls_ftn", "mpls_ftn_descr:s mpls_ftn_mask:4"},
	1011: {"extended_mpls_ldp_fec", "mpls_fec_addr_prefix_length:4"},
	1012: {"extended_vlantunnel", "stack:l"},
	1014: {"extended_80211_rx", "ssid:s bssid:mac version:4 channel:4 speed:8 rsni:4 rcpi:4 packet_duration:4"},
	1015: {"extended_80211_tx", "ssid:s bssid:mac version:4 transmissions:4 packet_duration:4 retrans_duration:4 channel:4 speed:8 power:4"},
	1020: {"extended_nat_port", "src_port:4 dst_port:4"},
	1021: {"extended_L2_tunnel_egress", ethernetColumns},
	1022: {"extended_L2_tunnel_ingress", ethernetColumns},
	1023: {"extended_ipv4_tunnel_egress", ip4Columns},
	1024: {"extended_ipv4_tunnel_ingress", ip4Columns},
	1025: {"extended_ipv6_tunnel_egress", ip6Columns},
	1026: {"extended_ipv6_tunnel_ingress", ip6Columns},
	1027: {"extended_decapsulate_egress", "inner_header_offset:4"},
	1028: {"extended_decapsulate_ingress", "inner_header_offset:4"},
	1029: {"extended_vni_egress", "vni:4"},
	1030: {"extended_vni_ingress", "vni:4"},
	1036: {"extended_egress_queue", "queue:4"},
	1037: {"extended_acl", "number:4 name:s direction:4"},
	1038: {"extended_function", "symbol:s"},
	1039: {"extended_transit", "delay:4"},
	1040: {"extended_queue_depth", "depth:4"},
	1041: {"extended_hw_trap", "group:s trap:s"},
	1042: {"extended_linux_drop_reason", "reason:s"},
	1043: {"extended_timestamp", "nanoseconds:8"},
	2100: {"extended_socket_ipv4", "protocol:4 local_ip:ip4 remote_ip:ip4 local_port:4 remote_port:4"},
	2101: {"extended_socket_ipv6", "protocol:4 local_ip:ip6 remote_ip:ip6 local_port:4 remote_port:4"},
	2102: {"extended_proxy_socket_ipv4", "protocol:4 local_ip:ip4 remote_ip:ip4 local_port:4 remote_port:4"},
	2103: {"extended_proxy_socket_ipv6", "protocol:4 local_ip:ip6 remote_ip:ip6 local_port:4 remote_port:4"},
	2206: {"http_request", "method:4 protocol:4 uri:s host:s referer:s useragent:s xff:s authuser:s mime_type:s req_bytes:8 resp_bytes:8 duration:4 status:4"},
	2209: {"extended_tcp_info", "dirn:4 snd_mss:4 rcv_mss:4 unacked:4 lost:4 retrans:4 pmtu:4 rtt:4 rttvar:4 snd_cwnd:4 reordering:4 min_rtt:4"},
	2210: {"extended_entities", "src_ds_class:4 src_ds_index:4 dst_ds_class:4 dst_ds_index:4"},
}

// counterRows are what an agent counts.
var counterRows = map[uint32][2]string{
	1: {"if_counters", "ifIndex:4 ifType:4 ifSpeed:8 ifDirection:4 ifStatus:4 ifInOctets:8 ifInUcastPkts:4 ifInMulticastPkts:4 ifInBroadcastPkts:4 ifInDiscards:4 " +
		"ifInErrors:4 ifInUnknownProtos:4 ifOutOctets:8 ifOutUcastPkts:4 ifOutMulticastPkts:4 ifOutBroadcastPkts:4 ifOutDiscards:4 ifOutErrors:4 ifPromiscuousMode:4"},
	2: {"ethernet_counters", "dot3StatsAlignmentErrors:4 dot3StatsFCSErrors:4 dot3StatsSingleCollisionFrames:4 dot3StatsMultipleCollisionFrames:4 " +
		"dot3StatsSQETestErrors:4 dot3StatsDeferredTransmissions:4 dot3StatsLateCollisions:4 dot3StatsExcessiveCollisions:4 dot3StatsInternalMacTransmitErrors:4 " +
		"dot3StatsCarrierSenseErrors:4 dot3StatsFrameTooLongs:4 dot3StatsInternalMacReceiveErrors:4 dot3StatsSymbolErrors:4"},
	3: {"tokenring_counters", "dot5StatsLineErrors:4 dot5StatsBurstErrors:4 dot5StatsACErrors:4 dot5StatsAbortTransErrors:4 dot5StatsInternalErrors:4 " +
		"dot5StatsLostFrameErrors:4 dot5StatsReceiveCongestions:4 dot5StatsFrameCopiedErrors:4 dot5StatsTokenErrors:4 dot5StatsSoftErrors:4 dot5StatsHardErrors:4 " +
		"dot5StatsSignalLoss:4 dot5StatsTransmitBeacons:4 dot5StatsRecoverys:4 dot5StatsLobeWires:4 dot5StatsRemoves:4 dot5StatsSingles:4 dot5StatsFreqErrors:4"},
	4: {"vg_counters", "dot12InHighPriorityFrames:4 dot12InHighPriorityOctets:8 dot12InNormPriorityFrames:4 dot12InNormPriorityOctets:8 dot12InIPMErrors:4 " +
		"dot12InOversizeFrameErrors:4 dot12InDataErrors:4 dot12InNullAddressedFrames:4 dot12OutHighPriorityFrames:4 dot12OutHighPriorityOctets:8 " +
		"dot12TransitionIntoTrainings:4 dot12HCInHighPriorityOctets:8 dot12HCInNormPriorityOctets:8 dot12HCOutHighPriorityOctets:8"},
	5: {"vlan_counters", "vlan_id:4 octets:8 ucastPkts:4 multicastPkts:4 broadcastPkts:4 discards:4"},
	7: {"lacp_counters", "actorSystemID:mac partnerSystemID:mac attachedAggID:4 portState:4 LACPDUsRx:4 markerPDUsRx:4 markerResponsePDUsRx:4 unknownRx:4 " +
		"illegalRx:4 LACPDUsTx:4 markerPDUsTx:4 markerResponsePDUsTx:4"},
	11:   {"pfc_counters", "requests:4 indications:4 pause_duration:4 storm_detected:4 storm_restored:4"},
	1001: {"processor", "cpu_5s:4 cpu_1m:4 cpu_5m:4 total_memory:8 free_memory:8"},
	1002: {"radio_utilization", "elapsed_time:4 on_channel_time:4 on_channel_busy_time:4"},
	1004: {"of_port", "datapath_id:8 port_no:4"},
	1005: {"port_name", "name:s"},
	2000: {"host_descr", "hostname:s uuid:uuid machine_type:4 os_name:4 os_release:s"},
	2002: {"host_parent", "container_type:4 container_index:4"},
	2003: {"host_cpu", "load_one:f load_five:f load_fifteen:f proc_run:4 proc_total:4 cpu_num:4 cpu_speed:4 uptime:4 cpu_user:4 cpu_nice:4 cpu_system:4 cpu_idle:4 cpu_wio:4 " +
		"cpu_intr:4 cpu_sintr:4 interrupts:4 contexts:4 cpu_steal:4 cpu_guest:4 cpu_guest_nice:4"},
	2004: {"host_memory", "mem_total:8 mem_free:8 mem_shared:8 mem_buffers:8 mem_cached:8 swap_total:8 swap_free:8 page_in:4 page_out:4 swap_in:4 swap_out:4"},
	2005: {"host_disk_io", "disk_total:8 disk_free:8 part_max_used:4 reads:4 bytes_read:8 read_time:4 writes:4 bytes_written:8 write_time:4"},
	2006: {"host_net_io", "bytes_in:8 pkts_in:4 errs_in:4 drops_in:4 bytes_out:8 packets_out:4 errs_out:4 drops_out:4"},
	2007: {"mib2_ip_group", "ipForwarding:4 ipDefaultTTL:4 ipInReceives:4 ipInHdrErrors:4 ipInAddrErrors:4 ipForwDatagrams:4 ipInUnknownProtos:4 ipInDiscards:4 ipInDelivers:4 " +
		"ipOutRequests:4 ipOutDiscards:4 ipOutNoRoutes:4 ipReasmTimeout:4 ipReasmReqds:4 ipReasmOKs:4 ipReasmFails:4 ipFragOKs:4 ipFragFails:4 ipFragCreates:4"},
	2009: {"mib2_tcp_group", "tcpRtoAlgorithm:4 tcpRtoMin:4 tcpRtoMax:4 tcpMaxConn:4 tcpActiveOpens:4 tcpPassiveOpens:4 tcpAttemptFails:4 tcpEstabResets:4 tcpCurrEstab:4 " +
		"tcpInSegs:4 tcpOutSegs:4 tcpRetransSegs:4 tcpInErrs:4 tcpOutRsts:4 tcpInCsumErrors:4"},
	2010: {"mib2_udp_group", "udpInDatagrams:4 udpNoPorts:4 udpInErrors:4 udpOutDatagrams:4 udpRcvbufErrors:4 udpSndbufErrors:4 udpInCsumErrors:4"},
	2100: {"virt_node", "mhz:4 cpus:4 memory:8 memory_free:8 num_domains:4"},
	2101: {"virt_cpu", "state:4 cpuTime:4 nrVirtCpu:4"},
	2102: {"virt_memory", "memory:8 maxMemory:8"},
	2103: {"virt_disk_io", "capacity:8 allocation:8 available:8 rd_req:4 rd_bytes:8 wr_req:4 wr_bytes:8 errs:4"},
	2104: {"virt_net_io", "rx_bytes:8 rx_packets:4 rx_errs:4 rx_drop:4 tx_bytes:8 tx_packets:4 tx_errs:4 tx_drop:4"},
	2202: {"app_operations", "application:s success:4 other:4 timeout:4 internal_error:4 bad_request:4 forbidden:4 too_large:4 not_implemented:4 not_found:4 unavailable:4 unauthorized:4"},
	2203: {"app_resources", "user_time:4 system_time:4 mem_used:8 mem_max:8 fd_open:4 fd_max:4 conn_open:4 conn_max:4"},
	2206: {"app_workers", "workers_active:4 workers_idle:4 workers_max:4 req_delayed:4 req_dropped:4"},
	2207: {"ovs_dp_stats", "hits:4 misses:4 lost:4 mask_hits:4 flows:4 masks:4"},
}

var columnTypes = map[string]ie.Type{
	"4": ie.Unsigned32, "8": ie.Unsigned64, "f": ie.Float32, "ip4": ie.IPv4Address, "ip6": ie.IPv6Address, "a": ie.OctetArray,
	"mac": ie.MACAddress, "s": ie.String, "o": ie.OctetArray, "uuid": ie.OctetArray, "l": ie.OctetArray, "path": ie.OctetArray,
}

func structures(rows map[uint32][2]string) map[uint32]*structure {
	out := make(map[uint32]*structure, len(rows))
	for format, row := range rows {
		s := &structure{name: row[0]}
		for word := range strings.FieldsSeq(row[1]) {
			name, kind, _ := strings.Cut(word, ":")
			s.columns = append(s.columns, column{
				element: &ie.Element{PEN: ie.SFlow, ID: uint16(format), Name: row[0] + "." + name, Type: columnTypes[kind]}, kind: kind,
			})
		}
		out[format] = s
	}
	return out
}

// value reads one column. Lists and paths come with the counts before their numbers.
func (c *cursor) value(kind string) []byte {
	start := c.off
	switch kind {
	case "4", "f", "ip4":
		return c.take(4)
	case "8":
		return c.take(8)
	case "ip6", "uuid":
		return c.take(16)
	case "mac":
		if b := c.take(8); b != nil {
			return b[:6]
		}
		return nil
	case "s", "o":
		return c.opaque()
	case "a":
		return c.typed()
	case "l":
		c.take(4 * int(c.u32()))
	case "path":
		for range c.u32() {
			c.u32()
			if c.take(4 * int(c.u32())); c.bad {
				return nil
			}
		}
	}
	if c.bad {
		return nil
	}
	return c.b[start:c.off]
}

// typed reads an address with its type before it, and returns the address alone.
func (c *cursor) typed() []byte {
	switch c.u32() {
	case addressIPv4:
		return c.take(4)
	case addressIPv6:
		return c.take(16)
	}
	return c.take(0)
}

// columnsOf calls yield for each column of a structure in body, which begins at an offset of the datagram. An unknown structure is
// shown as its bytes.
func columnsOf(s *structure, format uint32, body []byte, off int, yield func(block string, v decode.Value)) {
	if s == nil {
		yield(structureName(format), value(&ie.Element{PEN: ie.SFlow, ID: uint16(format), Name: structureName(format), Type: ie.OctetArray}, body, off))
		return
	}
	c := cursor{b: body}
	for _, col := range s.columns {
		at := off + c.off
		if col.kind == "s" || col.kind == "o" || col.kind == "a" {
			at += 4 // the length or the type
		}
		b := c.value(col.kind)
		if c.bad {
			return // older agents leave out the last columns
		}
		e := col.element
		if col.kind == "a" && len(b) > 0 {
			typed := *e
			typed.Type = ie.IPv4Address
			if len(b) == 16 {
				typed.Type = ie.IPv6Address
			}
			e = &typed
		}
		yield(s.name, value(e, b, at))
	}
}

func value(e *ie.Element, b []byte, off int) decode.Value {
	return decode.Value{Field: decode.Field{PEN: e.PEN, ID: e.ID, Len: uint16(len(b))}, Element: e, Bytes: b, Offset: off}
}

// show adds a number of the sample itself, which stands at a place of its body, to what is shown.
func (w *walk) show(block, name string, v uint32, at int) {
	if w.showing {
		b := binary.BigEndian.AppendUint32(nil, v)
		w.values = append(w.values, value(&ie.Element{PEN: ie.SFlow, Name: block + "." + name, Type: ie.Unsigned32}, b, w.off+at))
	}
}

func (w *walk) showStructure(s *structure, format uint32, body []byte, off int) {
	columnsOf(s, format, body, off, func(_ string, v decode.Value) { w.values = append(w.values, v) })
}
