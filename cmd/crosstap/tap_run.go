package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"crosstap/internal/agent"
	"crosstap/internal/agentapi"
	"crosstap/internal/filter"
	"crosstap/internal/obs"
	"crosstap/internal/start"
	"crosstap/internal/tap"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/deliver"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/groom"
)

// runTap runs the tap and chooses the exit code.
func runTap(cmd *cobra.Command, spec tap.Spec, show progress) error {
	spec.Ready = func() {
		if err := obs.Notify("READY=1"); err != nil {
			spec.Log.Warn("service manager not told", "error", err)
		}
	}
	if isTerminal(cmd.OutOrStdout()) && (slices.Contains(spec.To, "pcapng:-") || slices.Contains(spec.To, "pcap:-")) {
		return usagef("tap: standard output is a terminal: send the capture to a file or a program, as in | wireshark -k -i -")
	}
	spec.Resolver = newResolver()
	t, err := tap.New(spec)
	if err != nil {
		return exit(exitUsage, pointed(spec.Filter, err))
	}
	if !t.Straight() {
		start.Over()
	}
	// A reader that goes away must end the run with its summary, not silently.
	signal.Ignore(syscall.SIGPIPE)
	if show.metrics != "" {
		stop, err := serveMetrics(cmd.Context(), show.metrics, spec.Log, func() []agentapi.Tap { return []agentapi.Tap{agent.Describe(cmp.Or(spec.Name, "tap"), t)} })
		if err != nil {
			return exit(exitUsage, err)
		}
		defer stop()
	}
	began := time.Now()
	hide := show.start(cmd.ErrOrStderr(), t, spec.File)
	err = t.Run(cmd.Context())
	hide()
	var unknown *capture.UnknownInterface
	var open *os.PathError
	var mistake *filter.Error
	var refused *tap.DestinationError
	var broken *deliver.BrokenFile
	switch {
	case errors.As(err, &broken): // what it has is told below
	case errors.As(err, &unknown):
		return exit(exitUsage, err)
	case errors.Is(err, os.ErrPermission):
		return exit(exitDenied, err)
	case errors.As(err, &open) && open.Op == "open":
		return exit(exitUsage, err)
	case errors.As(err, &refused):
		return exit(exitUsage, err)
	case tap.RefusedPair(err):
		return exit(exitRefused, err)
	case errors.As(err, &mistake): // the expression does not fit the capture's link type
		return exit(exitUsage, pointed(spec.Filter, err))
	}
	printSummary(cmd.ErrOrStderr(), t, time.Since(began))
	if err == nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, context.Canceled) {
		if err = errors.Join(nothingArrived(t.Collectors()), t.Incomplete()); err == nil {
			return nil
		}
	}
	return exit(exitFinding, err)
}

// nothingArrived is an error when a collector cannot have got anything: a script must not take that for a success. What waits in a spool
// is not lost.
func nothingArrived(all []export.Status) error {
	var errs []error
	for _, st := range all {
		switch {
		case st.LastError == "" || st.SpoolRecords > 0 || st.Waiting > 0:
		case st.Messages == 0:
			errs = append(errs, fmt.Errorf("tap: %s got nothing: %s", st.Target, st.LastError))
		case st.Refused+1 >= st.Messages: // a refusal is told with the message after
			errs = append(errs, fmt.Errorf("tap: %s got nothing: nobody listens there", st.Target))
		}
	}
	return errors.Join(errs...)
}

// printSummary ends a run: what was done, who filtered, and the account of frames.
func printSummary(w io.Writer, t *tap.Tap, took time.Duration) {
	fmt.Fprintln(w, "crosstap: tap:", t.Summary(took))
	if where := t.Filter(); where != "" {
		fmt.Fprintln(w, "crosstap: tap: filter:", where)
	}
	for _, line := range t.InlineLines() {
		fmt.Fprintln(w, "crosstap: tap: inline:", line)
	}
	for _, line := range t.CollectorLines() {
		fmt.Fprintln(w, "crosstap: tap: collector:", line)
	}
	if sum := t.Ledger(); sum != "" {
		fmt.Fprintln(w, "crosstap: tap: ledger:", sum)
	}
	for _, line := range t.Deliveries() {
		fmt.Fprintln(w, "crosstap: tap: to:", line)
	}
	for _, line := range t.BudgetLines() {
		fmt.Fprintln(w, "crosstap: tap: budget:", line)
	}
	for _, warning := range t.Warnings() {
		fmt.Fprintln(w, "crosstap: tap: warning:", warning)
	}
}

// readGroom reads groom steps as they are written in a flag, or with @ in front the name of a YAML file.
func readGroom(text string) (*groom.Spec, error) {
	name, ok := strings.CutPrefix(text, "@")
	if !ok {
		return parseGroom(text)
	}
	doc, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("groom: %w", err)
	}
	s, err := groom.ParseYAML(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &s, nil
}

// parseGroom reads the form of flags, with a marker under the mistake.
func parseGroom(text string) (*groom.Spec, error) {
	s, err := groom.Parse(text)
	var e *groom.Error
	if errors.As(err, &e) && e.Column > 0 && !strings.ContainsAny(text, "\n\t") {
		err = fmt.Errorf("%w\n  %s\n  %s^", err, text, strings.Repeat(" ", e.Column-1))
	}
	return &s, err
}
