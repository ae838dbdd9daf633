//go:build agent

package main

import "github.com/spf13/cobra"

// commands are those of the tap line alone: what a small static binary inside a VM needs.
func commands() []*cobra.Command {
	return []*cobra.Command{newAgent(), newPlatform(), newTap(), newInline(), newCapture(), newDoctor(), newDestinations(), newNetNetflow(), newDecode(), newFilter(), newExtcap(), newMan(), newVersion()}
}

// agentCommands are those below agent.
func agentCommands() []*cobra.Command { return []*cobra.Command{newAgentSweep()} }
