//go:build !agent

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"crosstap/internal/ask"
	"crosstap/internal/control"
	"crosstap/internal/control/policy"
	"crosstap/internal/obs"
	"crosstap/internal/serve/controlapi"
	"crosstap/internal/state"

	"github.com/spf13/cobra"
)

// controller is where plan, apply and their like are done: by a server, or in this process with a state file.
type controller struct {
	server    string
	state     string
	platforms []string
	owner     string
	timeout   time.Duration
	verbose   bool

	extra []controlapi.File // platforms from flags
}

func (c *controller) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.server, "server", "", "URL of the server (default "+ask.DefaultServer+", or $CROSSTAP_SERVER)")
	f.StringVar(&c.state, "state", "", "do it in this process and keep policies, history and journal in this file (default with --platform: "+defaultState()+")")
	f.StringArrayVar(&c.platforms, "platform", nil, "do it in this process, on this platform: [NAME@]KIND=ADDRESS, such as ovs=unix:/run/openvswitch/db.sock, or linux for this kernel; may be given several times")
	f.StringVar(&c.owner, "owner", control.DefaultOwner, "without a server: owner in the marks of what is made")
	f.DurationVar(&c.timeout, "timeout", 10*time.Minute, "longest wait for an answer")
	f.BoolVarP(&c.verbose, "verbose", "v", false, "log what is done")
}

// defaultState is the file of a control line without a server.
func defaultState() string {
	if os.Geteuid() == 0 {
		return "/var/lib/crosstap/control.db"
	}
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".local", "state")
	}
	return filepath.Join(dir, "crosstap", "control.db")
}

// local reports whether this process does it.
func (c *controller) local() bool { return c.state != "" || len(c.platforms) > 0 }

// open returns a client of the server, or of a control line of this process. Call done when finished.
func (c *controller) open(ctx context.Context, stderr io.Writer) (client *http.Client, base string, done func(), err error) {
	if !c.local() {
		base = cmp.Or(c.server, os.Getenv("CROSSTAP_SERVER"), ask.DefaultServer)
		if !strings.Contains(base, "://") {
			base = "http://" + base
		}
		return &http.Client{}, base, func() {}, nil
	}
	if c.server != "" {
		return nil, "", nil, usagef("--server goes neither with --state nor with --platform")
	}
	if c.extra, err = platformFiles(c.platforms); err != nil {
		return nil, "", nil, err
	}
	st, err := state.Open(ctx, cmp.Or(c.state, defaultState()))
	if err != nil {
		return nil, "", nil, exit(exitUsage, err)
	}
	log := obs.Logger(stderr, c.verbose)
	line, err := control.New(control.Config{Owner: c.owner, Store: st, Connect: controlapi.Connect(log), Log: log})
	if err != nil {
		return nil, "", nil, exit(exitUsage, errors.Join(err, st.Close()))
	}
	api := controlapi.New(controlapi.Config{Line: line, Store: st, Log: log})
	done = func() { _, _ = line.Close(), st.Close() }
	return &http.Client{Transport: ask.Local{Handler: api}}, "http://local", done, nil
}

// platformFiles makes resources of --platform flags.
func platformFiles(flags []string) (out []controlapi.File, err error) {
	used := map[string]bool{}
	for _, f := range flags {
		kind, address, ok := strings.Cut(f, "=")
		name := ""
		if at := strings.IndexByte(kind, '@'); at >= 0 {
			name, kind = kind[:at], kind[at+1:]
		}
		if !ok && kind != "linux" || !slices.Contains(policy.PlatformKinds(), kind) {
			return nil, usagef("--platform %q: want [NAME@]KIND=ADDRESS with a kind of %s", f, strings.Join(policy.PlatformKinds(), ", "))
		}
		for n := 1; name == "" || used[name]; n++ {
			if name != "" && !strings.HasPrefix(name, kind) {
				return nil, usagef("--platform %q: the name %q is there twice", f, name)
			}
			if name = kind; n > 1 {
				name = fmt.Sprintf("%s-%d", kind, n)
			}
		}
		used[name] = true
		text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata:\n  name: %s\nspec:\n  kind: %s\n  address: %q\n", policy.APIVersion, policy.KindPlatform, name, kind, address)
		out = append(out, controlapi.File{Name: "--platform " + f, Text: text})
	}
	return out, nil
}

// call sends a request and reads the answer into doc.
func (c *controller) call(ctx context.Context, stderr io.Writer, method, path string, q url.Values, body *controlapi.Request, doc any) (raw []byte, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %v (--timeout)", c.timeout))
	defer cancel()
	client, base, done, err := c.open(ctx, stderr)
	if err != nil {
		return nil, err
	}
	defer done()
	var text io.Reader
	if body != nil {
		if path == "plan" || path == "apply" || path == "match" {
			body.Files = append(slices.Clone(c.extra), body.Files...)
		}
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = bytes.NewReader(b)
	}
	u := strings.TrimRight(base, "/") + "/api/v1/control/" + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, text)
	if err != nil {
		return nil, exit(exitUsage, err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil, exit(exitTimeout, context.Cause(ctx))
		case ctx.Err() != nil:
			return nil, exit(exitSignal, nil)
		}
		err = fmt.Errorf("server %s does not answer: %w; start one with \"crosstap serve\", name another with --server URL, or work without one: --platform KIND=ADDRESS", base, err)
		if broken := mistakes(body); broken != nil {
			return nil, exit(exitUsage, errors.Join(broken, err))
		}
		return nil, exit(exitNoServer, err)
	}
	defer res.Body.Close()
	if raw, err = io.ReadAll(res.Body); errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, exit(exitTimeout, context.Cause(ctx))
	} else if err != nil {
		return nil, exit(exitNoServer, err)
	}
	if res.StatusCode != http.StatusOK && errors.Is(ctx.Err(), context.Canceled) {
		return nil, exit(exitSignal, nil)
	}
	if res.StatusCode != http.StatusOK {
		return nil, refusedBy(base, res, raw)
	}
	return raw, json.Unmarshal(raw, doc)
}

// mistakes are those in the files of a request. A server finds them itself; they are looked for here when there is none.
func mistakes(body *controlapi.Request) error {
	if body == nil {
		return nil
	}
	var errs []error
	for _, f := range body.Files {
		_, err := policy.Parse(f.Name, []byte(f.Text))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// refusedBy is the error of an answer that says why there is none.
func refusedBy(base string, res *http.Response, raw []byte) error {
	p := &ask.Problem{Status: res.StatusCode, Title: http.StatusText(res.StatusCode)}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(raw, p) != nil {
		p.Detail = fmt.Sprintf("server %s answered %s: is it a crosstap server with a control line?", base, res.Status)
	}
	return exit(problemCode(res.StatusCode), p)
}

// author is who makes a change from this command line.
func author() string {
	name := os.Getenv("SUDO_USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	host, _ := os.Hostname() // without one the name does
	return strings.TrimSuffix(name+"@"+host, "@")
}

// readFiles reads the resources of -f: files, folders with .yaml files in them, or - for standard input.
func readFiles(cmd *cobra.Command, names []string) (out []controlapi.File, err error) {
	for _, name := range names {
		if name == "-" {
			b, err := io.ReadAll(cmd.InOrStdin())
			if err != nil {
				return nil, exit(exitUsage, err)
			}
			out = append(out, controlapi.File{Name: "(standard input)", Text: string(b)})
			continue
		}
		list := []string{name}
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			list = nil
			for _, pattern := range []string{"*.yaml", "*.yml"} {
				found, err := filepath.Glob(filepath.Join(name, pattern))
				if err != nil {
					return nil, exit(exitUsage, err)
				}
				list = append(list, found...)
			}
			slices.Sort(list)
		}
		for _, path := range list {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, exit(exitUsage, err)
			}
			out = append(out, controlapi.File{Name: path, Text: string(b)})
		}
	}
	return out, nil
}
