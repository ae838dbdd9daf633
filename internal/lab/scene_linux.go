package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/lab/truth"
	"crosstap/internal/lab/vm"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Graces before a process that was asked to end is killed.
const (
	vmGrace    = 20 * time.Second
	tapGrace   = 30 * time.Second
	serveGrace = 30 * time.Second
	truthGrace = 20 * time.Second
)

// Scene is a lab with its topology: it starts and stops what belongs together in the right order.
type Scene struct {
	*Lab
	Topology
	Dir string // the lab's directory
}

// Open starts a lab, builds the topology and writes its inventory file.
func Open(ctx context.Context, cfg Config, t Topology) (*Scene, error) {
	inventory, err := t.Inventory()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, InventoryFile), inventory, 0o644); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	l, err := Start(cfg)
	if err != nil {
		return nil, err
	}
	if err := l.Build(ctx, t); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &Scene{Lab: l, Topology: t, Dir: cfg.Dir}, nil
}

// StartServe starts the collector and console. http is the address of the lab's listener.
func (s *Scene) StartServe(ctx context.Context, http string) error {
	return s.Run(ctx, s.ServeProcess(s.Dir, http))
}

// StopServe ends the collector after it has stored what it holds.
func (s *Scene) StopServe(ctx context.Context) error { return s.stopCleanly(ctx, serveGrace, "serve") }

// StartTaps starts all taps together, with that idle and active timeout of flows.
func (s *Scene) StartTaps(ctx context.Context, timeout time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, o := range s.Observers {
		g.Go(func() error { return s.Run(ctx, s.TapProcess(o, timeout)) })
	}
	return g.Wait()
}

// StopTaps ends all taps, after they have exported what they hold.
func (s *Scene) StopTaps(ctx context.Context) error {
	var names []string
	for _, o := range s.Observers {
		names = append(names, TapName(o))
	}
	return s.stopCleanly(ctx, tapGrace, names...)
}

// StartCounters starts the hosts' agents of counters together.
func (s *Scene) StartCounters(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range s.Hosts {
		g.Go(func() error { return s.Run(ctx, s.CountersProcess(&s.Hosts[i])) })
	}
	return g.Wait()
}

// StopCounters ends them.
func (s *Scene) StopCounters(ctx context.Context) error {
	var names []string
	for i := range s.Hosts {
		names = append(names, s.CountersProcess(&s.Hosts[i]).Name)
	}
	return s.stopCleanly(ctx, tapGrace, names...)
}

// TapLosses returns what the taps did not meter, as the summary says that each writes at its end: a line for each
// reason except frames that are no IP packets.
func (s *Scene) TapLosses() []string {
	var losses []string
	for _, o := range s.Observers {
		log := readFrom(logPath(s.Dir, TapName(o)), 0)
		parts := summaryParts(log)
		if parts == nil {
			losses = append(losses, o.Name+": no summary"+lastLine(log))
			continue
		}
		for _, part := range parts[2:] {
			if !strings.HasSuffix(part, "non ip") {
				losses = append(losses, o.Name+": "+part)
			}
		}
	}
	return losses
}

// summaryParts returns the parts of a tap's summary: the last line whose second part says "N flow records". Lines about its
// collectors follow it. nil says that there is none.
func summaryParts(log string) (parts []string) {
	for line := range strings.Lines(log) {
		p := strings.Split(strings.TrimSpace(line), "; ")
		if len(p) > 1 && strings.HasSuffix(p[1], " flow records") {
			parts = p
		}
	}
	return parts
}

// stopCleanly ends processes together and returns an error for each that did not end by itself with status 0.
func (s *Scene) stopCleanly(ctx context.Context, grace time.Duration, names ...string) error {
	errs := make([]error, len(names))
	var g errgroup.Group
	for i, name := range names {
		g.Go(func() error {
			exit, err := s.Stop(ctx, name, int(unix.SIGTERM), grace)
			if err == nil && !exit.Clean {
				err = fmt.Errorf("lab: %s: %s%s", name, exit.Status, lastLine(readFrom(logPath(s.Dir, name), 0)))
			}
			errs[i] = err
			return nil
		})
	}
	return errors.Join(append(errs, g.Wait())...)
}

// byRole returns the VMs with that role.
func (s *Scene) byRole(role string) []*VM {
	var vms []*VM
	for i := range s.VMs {
		if s.VMs[i].Role == role {
			vms = append(vms, &s.VMs[i])
		}
	}
	return vms
}

// StartVMs starts all programs, servers before those who use them.
func (s *Scene) StartVMs(ctx context.Context) error {
	for _, role := range []string{"db", "web", "client"} {
		g, ctx := errgroup.WithContext(ctx)
		for _, v := range s.byRole(role) {
			p, err := s.VMProcess(v)
			if err != nil {
				return err
			}
			g.Go(func() error { return s.Run(ctx, p) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// StopVMs ends all programs, clients first, and returns what they say they did.
func (s *Scene) StopVMs(ctx context.Context) ([]vm.Report, error) {
	var reports []vm.Report
	for _, role := range []string{"client", "web", "db"} {
		var names []string
		for _, v := range s.byRole(role) {
			names = append(names, v.Name)
		}
		if err := s.stopCleanly(ctx, vmGrace, names...); err != nil {
			return reports, err
		}
		for _, name := range names {
			r, err := s.readReport(name)
			if err != nil {
				return reports, err
			}
			reports = append(reports, r)
		}
	}
	return reports, nil
}

func (s *Scene) readReport(name string) (vm.Report, error) {
	var r vm.Report
	b, err := os.ReadFile(filepath.Join(s.Dir, ReportFile(name)))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("lab: report of %s: %w", name, err)
	}
	return r, nil
}

// StartTruth starts a tcpdump on every VM's NIC.
func (s *Scene) StartTruth(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range s.VMs {
		g.Go(func() error { return s.Run(ctx, s.TruthProcess(&s.VMs[i])) })
	}
	return g.Wait()
}

// StopTruth ends the tcpdumps. A packet they missed is an error: there is no truth then.
func (s *Scene) StopTruth(ctx context.Context) error {
	errs := make([]error, len(s.VMs))
	var g errgroup.Group
	for i := range s.VMs {
		name := s.TruthProcess(&s.VMs[i]).Name
		g.Go(func() error {
			_, err := s.Stop(ctx, name, int(unix.SIGINT), truthGrace)
			if err == nil {
				err = complete(readFrom(logPath(s.Dir, name), 0))
			}
			if err != nil {
				errs[i] = fmt.Errorf("lab: %s: %w", name, err)
			}
			return nil
		})
	}
	return errors.Join(append(errs, g.Wait())...)
}

var tcpdumpEnd = regexp.MustCompile(`(?m)^(\d+) packets? captured\n(\d+) packets? received by filter\n(\d+) packets? dropped by kernel`)

// mostUnfiltered is how many frames may pass between tcpdump's opening of an interface and its filter's: the kernel has counted
// them as received, tcpdump then drops what the filter does not want by itself. A wanted one is never missed by that.
const mostUnfiltered = 16

// complete reads what tcpdump says at its end.
func complete(log string) error {
	m := tcpdumpEnd.FindStringSubmatch(log)
	if m == nil {
		return fmt.Errorf("tcpdump did not say what it captured%s", lastLine(log))
	}
	captured, errCaptured := strconv.Atoi(m[1])
	received, errReceived := strconv.Atoi(m[2])
	if errCaptured != nil || errReceived != nil || captured > received || received-captured > mostUnfiltered || m[3] != "0" {
		return fmt.Errorf("tcpdump missed packets: %s captured, %s received, %s dropped", m[1], m[2], m[3])
	}
	return nil
}

// ReadTruth returns what the VMs sent. StopTruth comes before.
func (s *Scene) ReadTruth(ctx context.Context, tshark string) (truth.Flows, error) {
	found := make([]truth.Flows, len(s.VMs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // each is a whole core
	for i, v := range s.VMs {
		found[i] = truth.Flows{}
		g.Go(func() error {
			return found[i].Read(ctx, tshark, filepath.Join(s.Dir, TruthFile(v.Name)), s.VNI(v.Tenant))
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all := truth.Flows{}
	for _, f := range found {
		all.Merge(f)
	}
	return all, nil
}

// lastLine returns the last line of a log for an error message, "" when there is none.
func lastLine(log string) string {
	text := strings.TrimSpace(log)
	if text == "" {
		return ""
	}
	return ": " + text[strings.LastIndexByte(text, '\n')+1:]
}
