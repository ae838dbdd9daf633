//go:build !agent

package main

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"crosstap/internal/serve/api"

	"github.com/spf13/cobra"
)

// completionWait bounds how long a press of Tab may take.
const completionWait = 800 * time.Millisecond

// completeFilter completes the words of a flow filter with what the server offers: fields, operators, and the
// names of VMs, tenants and segments it has seen. Without a server there is nothing to offer.
func completeFilter(s *source) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp
		ctx, cancel := context.WithTimeout(cmd.Context(), completionWait)
		defer cancel()
		c, done, err := s.open(ctx)
		if err != nil {
			return nil, directive
		}
		defer func() { _ = done() }() // nothing was written
		expr := strings.TrimLeft(strings.Join(args, " ")+" "+word, " ")
		body, err := c.Get(ctx, "api/v1/filter/complete", url.Values{"f": {expr}, "limit": {"50"}})
		var list api.Completions
		if err != nil || json.Unmarshal(body, &list) != nil {
			return nil, directive
		}
		var out []cobra.Completion
		for _, o := range list.Completions {
			if strings.HasPrefix(strings.ToLower(o.Text), strings.ToLower(word)) {
				out = append(out, cobra.CompletionWithDesc(o.Text, o.Detail))
			}
		}
		return out, directive
	}
}
