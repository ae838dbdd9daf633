//go:build agent

package main

import "github.com/spf13/cobra"

// conversationsMode is nothing here: the collect line is not in this binary.
type conversationsMode struct{ on bool }

func addConversations(*cobra.Command) *conversationsMode { return new(conversationsMode) }

func (*conversationsMode) run(*cobra.Command, []string, string, uint16) error { return nil }
