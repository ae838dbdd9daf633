//go:build linux && !agent

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"time"

	"crosstap/internal/ask"
	"crosstap/internal/collect/report"
	"crosstap/internal/lab"
	"crosstap/internal/lab/vm"

	"golang.org/x/sync/errgroup"
)

// firstPairTimeout is how long the demo waits for the first stored pair.
const firstPairTimeout = time.Minute

// endTimeout bounds the orderly end, all waits together.
const endTimeout = 90 * time.Second

// play is one performance of the demo.
type play struct {
	*demo
	steps
	complaints io.Writer
	dir        string
	http       string // address of the console
	scene      *lab.Scene
	client     *ask.Client
	began      time.Time // of the VMs' traffic
}

// perform opens the lab, runs until it is time to end, and ends in the data's order.
func (p *play) perform(ctx context.Context, socket *os.File) (err error) {
	if p.client, err = ask.NewClient("http://"+p.http, nil); err != nil {
		return err
	}
	topology := lab.Default(p.offloads == "on", hasIPv6())
	p.scene, err = lab.Open(ctx, lab.Config{InitArgs: []string{"lab", "init"}, Dir: p.dir, Remove: !p.keep, Listener: socket, Verbose: p.verbose}, topology)
	if err != nil {
		return interrupted(ctx, err)
	}
	socket.Close() // the lab has it
	defer p.scene.Close()
	hurried := make(chan struct{})
	defer impatient(func() {
		close(hurried)
		p.scene.Close()
	})()
	p.describe()
	if err := p.open(ctx); err != nil {
		return interrupted(ctx, err)
	}
	p.announce()
	if err = p.watch(ctx); err == nil {
		err = p.end(context.WithoutCancel(ctx))
	}
	select {
	case <-hurried:
		return exit(exitSignal, errors.New("demo: ended at once by a second signal"))
	default:
		return err
	}
}

// interrupted turns the failure of a start that a signal cut short into that.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return exit(exitSignal, errors.New("demo: interrupted before there was anything to see"))
	}
	return err
}

func (p *play) describe() {
	t := &p.scene.Topology
	vnis := ""
	for i, n := range t.Tenants {
		if i > 0 {
			vnis += ", "
		}
		vnis += strconv.Itoa(int(n.VNI))
	}
	p.done("lab: %d hosts, %d vSwitches, %d tenants (VNI %s), %d VMs", len(t.Hosts), len(t.Hosts), len(t.Tenants), vnis, len(t.VMs))
}

// open starts the collector, the taps and, last, the VMs, so that not one packet is missed, and
// waits for the first pair.
func (p *play) open(ctx context.Context) error {
	g, sub := errgroup.WithContext(ctx)
	if p.check {
		g.Go(func() error { return p.scene.StartTruth(sub) })
	}
	g.Go(func() error { return p.scene.StartServe(sub, p.http) })
	if err := g.Wait(); err != nil {
		return err
	}
	p.done("collector: IPFIX on %s, console on %s", p.scene.Flows(), p.http)
	taps, sub := errgroup.WithContext(ctx)
	taps.Go(func() error { return p.scene.StartTaps(sub, meterTimeout) })
	taps.Go(func() error { return p.scene.StartCounters(sub) })
	if err := taps.Wait(); err != nil {
		return err
	}
	p.done("taps: 1 vSwitch mirror, 1 VTEP meter, 1 agent in a VM; %d ports counted", len(p.scene.VMs))
	p.began = time.Now()
	if err := p.scene.StartVMs(ctx); err != nil {
		return err
	}
	return p.firstPair(ctx)
}

// firstPair waits until the store has a pair and prints it.
func (p *play) firstPair(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstPairTimeout)
	defer cancel()
	for {
		var pairs report.Pairs
		err := p.ask(ctx, "pairs", &pairs)
		for i := range pairs.Rows {
			if e := &pairs.Rows[i].Ends; e.SrcVM != "" && e.DstVM != "" && e.VNI != 0 {
				p.done("first tenant pair stored: %s > %s in VNI %d (%s), %s", e.SrcVM, e.DstVM, e.VNI, e.Tenant, route(e))
				return nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-p.scene.Done():
			return lab.ErrEnded
		case <-ctx.Done():
			why := "the store stays empty"
			if pairs.Meta.Empty != nil {
				why = pairs.Meta.Empty.Text
			} else if err != nil {
				why = err.Error()
			}
			return fmt.Errorf("demo: no tenant pair stored after %v: %s; --keep leaves the logs", firstPairTimeout, why)
		}
	}
}

func route(e *report.Ends) string {
	if e.SameHost {
		return "same host"
	}
	return e.SrcHost + " to " + e.DstHost
}

// ask gets one report over everything the demo has stored.
func (p *play) ask(ctx context.Context, name string, into any) error {
	q := url.Values{"from": {strconv.FormatInt(p.began.Add(-time.Minute).Unix(), 10)}, "to": {"now"}, "limit": {"100000"}}
	if name == "status" {
		q = nil
	}
	b, err := p.client.Get(ctx, "api/v1/"+name, q)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("demo: %s: %w", name, err)
	}
	return nil
}

// announce says where to look and what to try.
func (p *play) announce() {
	server := ""
	if base := "http://" + p.http; base != ask.DefaultServer {
		server = " --server " + base
	}
	fmt.Fprintf(p.out, "Console  http://%s/   (lab traffic; Ctrl-C stops it and cleans up)\n", p.http)
	fmt.Fprintf(p.out, "Try      crosstap pairs --follow%s\n", server)
	fmt.Fprintf(p.out, "         crosstap conversations --since 1m%s vni = 5001 and port = 5432\n", server)
	fmt.Fprintf(p.out, "         crosstap coverage%s\n", server)
	fmt.Fprintf(p.out, "         crosstap flows --since 1m --limit 5 -o json%s\n", server)
	if p.keep {
		fmt.Fprintf(p.out, "Store    %s stays\n", p.dir)
	}
}

// watch waits for the end of the demo's time, a signal, or the end of the lab.
func (p *play) watch(ctx context.Context) error {
	var over <-chan time.Time
	if p.duration > 0 {
		over = time.After(time.Until(p.began.Add(p.duration)))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-over:
			return nil
		case e, ok := <-p.scene.Events():
			if !ok {
				return lab.ErrEnded
			}
			p.report(e)
		}
	}
}

// report prints that a process ended by itself.
func (p *play) report(e lab.Event) {
	name, then := e.Process, ""
	for _, o := range p.scene.Observers {
		if lab.TapName(o) == e.Process {
			name += " (" + o.Name + ")"
		}
	}
	switch {
	case e.Err != "":
		then = " and does not start again: " + e.Err
	case e.Restart:
		then = " and runs again"
	}
	fmt.Fprintf(p.complaints, "! %s ended (%s)%s\n", name, e.Status, then)
}

// end stops the lab in the data's order and, if so asked, compares.
func (p *play) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	p.last = time.Now()
	var finding error
	if p.check {
		finding = p.compare(ctx)
	} else {
		_, vmErr := p.scene.StopVMs(ctx)
		finding = errors.Join(vmErr, p.scene.StopTaps(ctx), p.scene.StopCounters(ctx))
	}
	if err := errors.Join(finding, p.scene.StopServe(ctx)); err != nil {
		return err
	}
	if err := p.scene.Close(); err != nil {
		return err
	}
	p.done("ended: nothing is left%s", map[bool]string{true: " but " + p.dir}[p.keep])
	return nil
}

// failures returns a line for each VM whose requests failed.
func failures(reports []vm.Report) []string {
	var lines []string
	for _, r := range reports {
		if r.Failures > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d of %d requests failed, the last: %s", r.VM, r.Failures, r.Asked, r.Failure))
		}
	}
	return lines
}

// hasIPv6 reports whether this kernel has IPv6.
func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}
