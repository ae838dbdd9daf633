//go:build !agent

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crosstap/internal/agentapi"
	"crosstap/internal/serve/agent"
	"crosstap/internal/serve/settings"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{Use: "token", GroupID: "setup", Short: "Make, list and revoke tokens of agents and operators", Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var data string
	cmd.PersistentFlags().StringVar(&data, "data", settings.Default().Data, "store directory of the server")
	cmd.AddCommand(tokenCreate(&data), tokenList(&data), tokenRevoke(&data))
	return cmd
}

func tokenCreate(data *string) *cobra.Command {
	var g agent.Grant
	var life time.Duration
	var noPin bool
	cmd := &cobra.Command{
		Use: "create --role ROLE", Short: "Make a token and print it", Args: cobra.NoArgs,
		Long: `create prints a new token. The server keeps a hash alone: what is lost cannot be shown again. It takes effect at once.

Roles: agent may register an agent that copies flow records and headers; agent-payload one that copies payload, too; operator may
give taps to agents. The token carries the pin of the server's own authority, so that an agent needs no certificate file. A server with --agents-cert has a
certificate of others: give --no-pin, and --ca to agents where the system does not know its authority.`,
		Example: `  crosstap token create --data /var/lib/crosstap --role agent > kvm-04.token
  crosstap token create --data /var/lib/crosstap --role agent-payload --agent kvm-04 --life 720h > kvm-04.token`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if life < 0 {
				return usagef("token: --life %s: must be positive", life)
			}
			return createToken(cmd.OutOrStdout(), *data, g, life, noPin)
		},
	}
	f := cmd.Flags()
	f.StringVar(&g.Role, "role", "", strings.Join(agentapi.Roles(), ", "))
	f.StringVar(&g.Agent, "agent", "", "only for the agent of this name")
	f.StringVar(&g.Note, "note", "", "what it is for")
	f.DurationVar(&life, "life", 0, "how long it is valid (default for ever)")
	f.BoolVar(&noPin, "no-pin", false, "without the pin of the server's own authority")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(agentapi.Roles(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func createToken(w io.Writer, data string, g agent.Grant, life time.Duration, noPin bool) error {
	tokens, err := openTokens(data)
	if err != nil {
		return err
	}
	token, err := tokens.Create(g, life)
	if err != nil {
		return exit(codeOf(err, exitUsage), err)
	}
	if !noPin {
		authority, err := agent.OpenAuthority(agent.AuthorityPath(data))
		if err != nil {
			return exit(codeOf(err, exitUsage), err)
		}
		token.Pin = authority.Pin()
	}
	_, err = fmt.Fprintln(w, token)
	return err
}

func openTokens(data string) (*agent.TokenFile, error) {
	if _, err := os.Stat(data); err != nil {
		return nil, exit(codeOf(err, exitUsage), fmt.Errorf("token: %w; --data is the store directory of the server", err))
	}
	tokens, err := agent.OpenTokens(agent.TokenPath(data))
	if err != nil {
		return nil, exit(codeOf(err, exitUsage), err)
	}
	return tokens, nil
}

// tokenRow is a line of token list.
type tokenRow struct {
	ID      string `json:"id"`
	Role    string `json:"role"`
	Agent   string `json:"agent"`
	Created string `json:"created"`
	Expires string `json:"expires"`
	Note    string `json:"note"`
}

type tokenRows struct {
	Rows []tokenRow `json:"rows"`
}

func tokenList(data *string) *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "list", Short: "List tokens, without their secrets", Args: cobra.NoArgs, Example: "  crosstap token list --data /var/lib/crosstap",
		RunE: func(cmd *cobra.Command, _ []string) error {
			tokens, err := openTokens(*data)
			if err != nil {
				return err
			}
			list, err := tokens.List()
			if err != nil {
				return exit(codeOf(err, exitUsage), err)
			}
			doc := tokenRows{Rows: []tokenRow{}}
			for _, g := range list {
				r := tokenRow{ID: g.ID, Role: g.Role, Agent: g.Agent, Created: g.Created.Format(time.RFC3339), Note: g.Note, Expires: "never"}
				if !g.Expires.IsZero() {
					r.Expires = g.Expires.Format(time.RFC3339)
				}
				doc.Rows = append(doc.Rows, r)
			}
			return printDocument(cmd.OutOrStdout(), output, doc)
		}}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "format: table, json, yaml")
	return cmd
}

func tokenRevoke(data *string) *cobra.Command {
	return &cobra.Command{Use: "revoke ID", Short: "Take a token back; whoever has it is refused at its next request", Args: cobra.ExactArgs(1),
		Example: "  crosstap token list\n  crosstap token revoke 3f9c1d20a7b4",
		RunE: func(_ *cobra.Command, args []string) error {
			tokens, err := openTokens(*data)
			if err != nil {
				return err
			}
			if err := tokens.Revoke(args[0]); err != nil {
				return exit(codeOf(err, exitUsage), err)
			}
			return nil
		}}
}
