//go:build !agent

package main

import "github.com/spf13/cobra"

// commands are all commands of the full binary.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newDemo(), newServe(), newTap(), newCapture(), newNetNetflow(), newLab(),
		newPairs(), newConversations(), newFlows(), newQuery(), newImport(), newBackup(), newRestore(), newTop(), newSeries(), newMap(), newNetworks(), newCoverage(), newGet(), newDescribe(),
		newStatus(), newDoctor(), newDestinations(), newExporters(), newDecode(), newFilter(), newConfig(),
		newExtcap(), newDocs(), newMan(), newVersion(),
	}
}
