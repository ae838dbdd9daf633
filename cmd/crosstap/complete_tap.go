package main

import (
	"net"
	"strings"

	"crosstap/internal/tap"

	"github.com/spf13/cobra"
)

// completeWords offers fixed words for a flag.
func completeWords(cmd *cobra.Command, flag string, words ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// completeInterfaces offers the interfaces of this host.
func completeInterfaces(_ *cobra.Command, args []string, word string) (out []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, _ := net.Interfaces()
	for _, i := range all {
		if strings.HasPrefix(i.Name, word) {
			out = append(out, i.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeTap offers what the flags of a tap take.
func completeTap(cmd *cobra.Command) {
	const noSpace = cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	_ = cmd.RegisterFlagCompletionFunc("interface", func(cmd *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return completeInterfaces(cmd, nil, word)
	})
	completeWords(cmd, "path", tap.Paths...)
	completeWords(cmd, "key", "inner", "outer", "both")
	completeWords(cmd, "role", "vnic", "port", "mirror", "tunnel", "underlay")
	_ = cmd.RegisterFlagCompletionFunc("groom", cobra.FixedCompletions([]cobra.Completion{"repair", "strip=", "dedup", "sample=", "slice=", "mask=", "tag=", "balance="}, noSpace))
	_ = cmd.RegisterFlagCompletionFunc("listen", cobra.FixedCompletions([]cobra.Completion{"erspan://", "gre://", "vxlan://:4789", "geneve://", "tzsp://", "udp://:"}, noSpace))
	_ = cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions([]cobra.Completion{"ipfix://", "ipfix+tcp://", "ipfix+tls://", "netflow9://", "netflow5://", "sflow://", "flows:-", "pcapng:", "pcap:",
		"vxlan://", "geneve://", "gre://", "erspan2://", "erspan3://", "udp://", "iface:", "tls://", "rpcap://", "frames:-", "null:"}, noSpace))
	_ = cmd.RegisterFlagCompletionFunc("tunnel-port", cobra.FixedCompletions([]cobra.Completion{"vxlan=", "vxlan-gpe=", "geneve=", "gtp=", "mpls=", "tzsp=", "gre="}, noSpace))
}
