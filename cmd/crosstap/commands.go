//go:build !agent

package main

import "github.com/spf13/cobra"

// commands are all commands of the full binary.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newDemo(), newServe(), newAgent(), newPlatform(), newTap(), newInline(), newCapture(), newNetNetflow(), newLab(),
		newPairs(), newConversations(), newFlows(), newQuery(), newImport(), newBackup(), newRestore(), newTop(), newSeries(), newMap(), newNetworks(), newCoverage(), newIrregular(), newGet(), newDescribe(),
		newMatch(), newPlan(), newDiff(), newApply(), newDelete(), newRollback(), newTaps(), newHistory(),
		newStatus(), newDoctor(), newDestinations(), newExporters(), newDecode(), newFilterCommands(), newConfig(),
		newToken(), newExtcap(), newDocs(), newMan(), newVersion(),
	}
}

// agentCommands are those below agent.
func agentCommands() []*cobra.Command { return []*cobra.Command{newAgentTaps(), newAgentSweep()} }
