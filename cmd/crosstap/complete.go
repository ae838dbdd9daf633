//go:build !agent

package main

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"crosstap/internal/ask"
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

// fieldsOfKinds are the kinds whose names are values of the field of the same name.
var fieldsOfKinds = []string{"vm", "host", "vtep", "tenant", "app", "vni"}

// completeNames completes the name of a thing of a kind with those that the server knows from flows, policies or agents.
func completeNames(ctx context.Context, s *source, kind, word string) []cobra.Completion {
	ctx, cancel := context.WithTimeout(ctx, completionWait)
	defer cancel()
	c, done, err := s.open(ctx)
	if err != nil {
		return nil
	}
	defer func() { _ = done() }() // nothing was written
	kind = strings.TrimSuffix(strings.ToLower(kind), "s")
	switch {
	case slices.Contains(fieldsOfKinds, kind):
		return valuesOf(ctx, c, kind, word)
	case kind == "agent":
		return rowNames(ctx, c, "api/v1/agents", nil)
	case kindOf(kind) != "":
		return rowNames(ctx, c, "api/v1/control/resources", url.Values{"kind": {kindOf(kind)}})
	}
	return nil
}

// valuesOf lists the values of a field that begin with a word, without their quotes.
func valuesOf(ctx context.Context, c *ask.Client, field, word string) (out []cobra.Completion) {
	body, err := c.Get(ctx, "api/v1/filter/complete", url.Values{"f": {field + " = " + word}, "limit": {"50"}})
	var list api.Completions
	if err != nil || json.Unmarshal(body, &list) != nil {
		return nil
	}
	for _, o := range list.Completions {
		text := o.Text
		if o.Kind != "value" || strings.HasPrefix(text, `"`) && json.Unmarshal([]byte(text), &text) != nil {
			continue
		}
		out = append(out, cobra.CompletionWithDesc(text, o.Detail))
	}
	return out
}

// rowNames lists the names in the rows of a document.
func rowNames(ctx context.Context, c *ask.Client, path string, q url.Values) (out []cobra.Completion) {
	var doc struct {
		Rows []struct {
			Name string `json:"name"`
		} `json:"rows"`
	}
	body, err := c.Get(ctx, path, q)
	if err != nil || json.Unmarshal(body, &doc) != nil {
		return nil
	}
	for _, r := range doc.Rows {
		out = append(out, r.Name)
	}
	return out
}
