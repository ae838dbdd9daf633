//go:build !agent

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// writePages writes a page for a command and for each below it that help lists.
func writePages(cmd *cobra.Command, dir string) error {
	for _, c := range listed(cmd) {
		if err := writePages(c, dir); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, pageOf(cmd)), reference(cmd), 0o644)
}

func pageOf(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "_") + ".md"
}

// listed are the commands below one that help lists, by name.
func listed(cmd *cobra.Command) (all []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	return all
}

// reference is a command's reference in Markdown.
func reference(cmd *cobra.Command) []byte {
	cmd.InitDefaultHelpCmd()
	cmd.InitDefaultHelpFlag()
	var b bytes.Buffer
	fmt.Fprintf(&b, "## %s\n\n%s\n\n", cmd.CommandPath(), cmd.Short)
	if cmd.Long != "" {
		fmt.Fprintf(&b, "### Synopsis\n\n%s\n\n", cmd.Long)
	}
	if cmd.Runnable() {
		fmt.Fprintf(&b, "```\n%s\n```\n\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "### Examples\n\n```\n%s\n```\n\n", cmd.Example)
	}
	pageFlags(&b, "Options", cmd.NonInheritedFlags())
	pageFlags(&b, "Options inherited from parent commands", cmd.InheritedFlags())
	if below := listed(cmd); cmd.HasParent() || len(below) > 0 {
		b.WriteString("### SEE ALSO\n\n")
		if cmd.HasParent() {
			below = slices.Insert(below, 0, cmd.Parent())
		}
		for _, c := range below {
			fmt.Fprintf(&b, "* [%s](%s)\t - %s\n", c.CommandPath(), pageOf(c), c.Short)
		}
		b.WriteString("\n")
	}
	return b.Bytes()
}

func pageFlags(b *bytes.Buffer, heading string, flags *pflag.FlagSet) {
	if flags.HasAvailableFlags() {
		fmt.Fprintf(b, "### %s\n\n```\n%s```\n\n", heading, flags.FlagUsages())
	}
}
