//go:build !agent

package main

import (
	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
)

func newConversations() *cobra.Command {
	return newInquiry[report.Conversations, report.Conversation]("conversations", "conversation", "Show tenant conversations: pairs with protocol and ports",
		`conversations shows one row for each conversation: what "crosstap pairs" shows, by protocol and ports. Source is the
side that opened it, as far as known.

The flow filter may follow as further words; quote what your shell would take for itself.`,
		`  crosstap conversations --since 15m port 443
  crosstap conversations vm = web-1 -o wide
  crosstap conversations --follow -o jsonl`)
}
