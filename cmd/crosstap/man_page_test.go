package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// TestManPage writes a page by hand.
func TestManPage(t *testing.T) {
	root := &cobra.Command{Use: "x", Short: "All"}
	c := &cobra.Command{Use: "do {A | -b}", Short: "Do it", Long: "It's \\ a\n.line.\n\nForms:\n  one   1\n  two", Example: "  x do -b", Run: func(*cobra.Command, []string) {}}
	c.Flags().IntP("number", "n", 3, "so `many`")
	c.Flags().Bool("secret", false, "")
	_ = c.Flags().MarkHidden("secret")
	root.AddCommand(c)
	want := `.nh
.TH "X-DO" "1" "" "crosstap" ""
.SH NAME
x\-do \- Do it
.SH SYNOPSIS
\fBx do {A | \-b} [flags]\fP
.SH DESCRIPTION
It\(aqs \e a
\&.line.
.PP
.EX
Forms:
  one   1
  two
.EE
.SH OPTIONS
.TP
\fB\-n\fP, \fB\-\-number\fP \fImany\fP
so many (default 3)
.SH EXAMPLE
.EX
  x do \-b
.EE
.SH SEE ALSO
\fBx\fP(1)
`
	if diff := cmp.Diff(want, manPage(c)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
