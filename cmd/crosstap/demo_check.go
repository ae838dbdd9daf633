//go:build linux && !agent

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/lab/truth"
	"crosstap/internal/lab/verdict"
	"crosstap/internal/serve/api"

	"golang.org/x/sync/errgroup"
)

// compare ends the traffic and the taps, and holds what is shown against what the VMs sent.
func (p *play) compare(ctx context.Context) error {
	memory := p.scene.Memory()
	reports, err := p.scene.StopVMs(ctx)
	if err != nil {
		return err
	}
	time.Sleep(meterTimeout + 500*time.Millisecond) // the meters' own timeouts, not their end, export the flows
	if err := errors.Join(p.scene.StopTaps(ctx), p.scene.StopCounters(ctx), p.scene.StopTruth(ctx)); err != nil {
		return err
	}
	p.done("traffic ended, taps drained")
	v, err := p.judge(ctx)
	if err != nil {
		return err
	}
	v.Findings = append(v.Findings, failures(reports)...)
	v.Findings = append(v.Findings, p.scene.TapLosses()...)
	lost, err := p.losses(ctx)
	if err != nil {
		return err
	}
	v.Findings = append(v.Findings, lost...)
	if memory > memoryLimit {
		v.Findings = append(v.Findings, fmt.Sprintf("memory: %d MB resident, more than %d", memory>>20, memoryLimit>>20))
	}
	total := v.Sent.Total()
	if !v.OK() {
		if err := v.Print(os.Stdout); err != nil {
			return err
		}
		return exit(exitFinding, fmt.Errorf("demo: check: %d of %d directions differ from what the VMs sent (%d packets, %d bytes); other findings: %d",
			len(v.Differs), len(v.Sent), total.Packets, total.Octets, len(v.Findings)))
	}
	p.done("check: %d packets, %d bytes in %d directions, shown exactly as sent", total.Packets, total.Octets, len(v.Sent))
	fmt.Fprintf(p.out, "         by the word of tcpdump and tshark; the demo itself %d MB resident\n", memory>>20)
	return nil
}

// memoryLimit is what the demo may keep resident; tcpdump, which only the check needs, is not counted.
const memoryLimit = 500 << 20

// judge reads the truth while the store settles, and compares.
func (p *play) judge(ctx context.Context) (v verdict.Verdict, err error) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		return v, err
	}
	var sent truth.Flows
	g, sub := errgroup.WithContext(ctx)
	g.Go(func() (err error) { sent, err = p.scene.ReadTruth(sub, tshark); return err })
	g.Go(func() error { return p.settle(sub) })
	if err := g.Wait(); err != nil {
		return v, err
	}
	var pairs report.Pairs
	var conversations report.Conversations
	if err := errors.Join(p.ask(ctx, "pairs", &pairs), p.ask(ctx, "conversations", &conversations)); err != nil {
		return v, err
	}
	if conversations.Meta.Total.Rows > uint64(len(conversations.Rows)) {
		return v, fmt.Errorf("demo: check: %d conversations, but only %d in the answer: use a shorter --for", conversations.Meta.Total.Rows, len(conversations.Rows))
	}
	return verdict.Judge(&p.scene.Topology, sent, pairs.Rows, conversations.Rows)
}

// settle waits until the store holds all that the collector has received.
func (p *play) settle(ctx context.Context) error {
	var before uint64
	for calm := 0; calm < 3; {
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("demo: check: the store does not settle: %w", ctx.Err())
		}
		var s api.Status
		if err := p.ask(ctx, "status", &s); err != nil {
			return err
		}
		calm++
		if s.Store.Pending > 0 || s.Store.Rows != before {
			calm = 0
		}
		before = s.Store.Rows
	}
	return nil
}

// losses returns what the collecting side admits to have lost.
func (p *play) losses(ctx context.Context) ([]string, error) {
	var s api.Status
	if err := p.ask(ctx, "status", &s); err != nil {
		return nil, err
	}
	var lines []string
	for _, l := range s.Listeners {
		if l.DroppedDatagrams > 0 {
			lines = append(lines, fmt.Sprintf("listener %s: the kernel dropped %d datagrams", l.Address, l.DroppedDatagrams))
		}
	}
	for _, e := range s.Exporters {
		if e.LostRecords+e.TemplateMissingRecords+e.Errors > 0 {
			lines = append(lines, fmt.Sprintf("exporter %s (%s): %d records lost, %d without template, %d errors", e.Address, e.Name, e.LostRecords, e.TemplateMissingRecords, e.Errors))
		}
	}
	for _, stage := range s.Stages {
		for _, d := range stage.Dropped {
			if d.N > 0 && (stage.Stage != "counters" || d.Reason != "restart") { // the first sample of a port is where its count begins
				lines = append(lines, fmt.Sprintf("stage %s: %d %s dropped: %s", stage.Stage, d.N, stage.Unit, d.Reason))
			}
		}
		if err := stage.Balance(); err != nil {
			lines = append(lines, err.Error())
		}
	}
	return lines, nil
}
