//go:build !agent && !linux

package main

import "github.com/spf13/cobra"

// newDemo stands for the demo where the lab cannot be built.
func newDemo() *cobra.Command {
	return &cobra.Command{
		Use: "demo", Short: "Build a lab of six virtual machines in two tenants and watch it", GroupID: "run", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("demo: this build has no lab: it needs the full binary on Linux")
		},
	}
}

func newLab() *cobra.Command { return &cobra.Command{Use: "lab", Hidden: true} }
