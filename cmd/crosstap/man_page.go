package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// writeManPages writes the page of a command and of all below it to a folder.
func writeManPages(c *cobra.Command, dir string) error {
	c.InitDefaultHelpCmd()
	c.InitDefaultHelpFlag()
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := writeManPages(sub, dir); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, manName(c)+".1"), []byte(manPage(c)), 0o644)
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// page is a manual page under way, in the macros of man(7).
type page struct{ strings.Builder }

func manPage(c *cobra.Command) string {
	var p page
	fmt.Fprintf(&p, ".nh\n.TH \"%s\" \"1\" \"\" \"crosstap\" \"\"\n", strings.ToUpper(manName(c)))
	p.section("NAME")
	p.line(manName(c) + " - " + c.Short)
	p.section("SYNOPSIS")
	p.WriteString(bold(c.UseLine()) + "\n")
	p.section("DESCRIPTION")
	p.text(long(c))
	p.flags("OPTIONS", c.NonInheritedFlags())
	p.flags("OPTIONS OF COMMANDS ABOVE", c.InheritedFlags())
	if c.Example != "" {
		p.section("EXAMPLE")
		p.verbatim(strings.Split(c.Example, "\n"))
	}
	p.seeAlso(c)
	return p.String()
}

func long(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short
}

func (p *page) section(name string) { fmt.Fprintf(p, ".SH %s\n", name) }

// line writes a line of text.
func (p *page) line(s string) { p.WriteString(literal(s) + "\n") }

// text writes paragraphs. One with lines that are set in is left as it is.
func (p *page) text(s string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			p.WriteString(".PP\n")
		}
		lines := strings.Split(paragraph, "\n")
		if strings.Contains("\n"+paragraph, "\n  ") {
			p.verbatim(lines)
			continue
		}
		for _, l := range lines {
			p.line(l)
		}
	}
}

func (p *page) verbatim(lines []string) {
	p.WriteString(".EX\n")
	for _, l := range lines {
		p.line(l)
	}
	p.WriteString(".EE\n")
}

// flags writes the flags that help shows.
func (p *page) flags(title string, f *pflag.FlagSet) {
	if !f.HasAvailableFlags() {
		return
	}
	p.section(title)
	f.VisitAll(func(x *pflag.Flag) {
		if x.Hidden || x.Deprecated != "" {
			return
		}
		name, usage := pflag.UnquoteUsage(x)
		head := bold("--" + x.Name)
		if x.Shorthand != "" && x.ShorthandDeprecated == "" {
			head = bold("-"+x.Shorthand) + ", " + head
		}
		if name != "" {
			head += ` \fI` + literal(name) + `\fP`
		}
		switch x.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			usage += " (default " + x.DefValue + ")"
		}
		p.WriteString(".TP\n" + head + "\n")
		p.line(usage)
	})
}

// seeAlso names the command above and those below.
func (p *page) seeAlso(c *cobra.Command) {
	var names []string
	if c.HasParent() {
		names = append(names, manName(c.Parent()))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			names = append(names, manName(sub))
		}
	}
	if len(names) == 0 {
		return
	}
	p.section("SEE ALSO")
	for i, n := range names {
		comma := ","
		if i == len(names)-1 {
			comma = ""
		}
		p.WriteString(bold(n) + "(1)" + comma + "\n")
	}
}

func bold(s string) string { return `\fB` + literal(s) + `\fP` }

// literal escapes what troff would take for its own.
func literal(s string) string {
	s = special.Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

var special = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)
