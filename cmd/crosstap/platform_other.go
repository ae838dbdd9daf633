//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newPlatform() *cobra.Command {
	return &cobra.Command{
		Use: "platform", GroupID: "run", Short: "Let a control line tap this machine through ssh (Linux)", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("platform: only a Linux kernel can be tapped so")
		},
	}
}
