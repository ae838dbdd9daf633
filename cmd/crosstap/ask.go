//go:build !agent

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/ask"
	"crosstap/internal/collect/report"
	"crosstap/internal/nearest"

	"github.com/spf13/cobra"
)

// formats of the ask commands.
var formats = []string{"table", "wide", "json", "jsonl", "csv", "yaml"}

// source is where an ask command gets its answers.
type source struct {
	server   string
	data     string
	elements []string
	timeout  time.Duration
}

func (s *source) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.server, "server", "", "URL of the server (default "+ask.DefaultServer+", or $CROSSTAP_SERVER)")
	f.StringVar(&s.data, "data", "", "read this store directory instead of asking a server")
	f.StringSliceVar(&s.elements, "elements", nil, "with --data: files with definitions of information elements, .yaml or .csv")
	f.DurationVar(&s.timeout, "timeout", 35*time.Second, "longest wait for an answer")
}

// open returns a client of the server, or of the store directory through the same API in this process.
// Call done when finished.
func (s *source) open(ctx context.Context) (c *ask.Client, done func() error, err error) {
	if s.data != "" {
		if s.server != "" {
			return nil, nil, usagef("--server and --data exclude each other")
		}
		return openData(ctx, s.data, s.elements)
	}
	if len(s.elements) > 0 {
		return nil, nil, usagef("--elements goes with --data; a server is told its own")
	}
	server := s.server
	if server == "" {
		server = os.Getenv("CROSSTAP_SERVER")
	}
	if server == "" {
		server = ask.DefaultServer
	}
	if c, err = ask.NewClient(server, nil); err != nil {
		return nil, nil, exit(exitUsage, err)
	}
	return c, func() error { http.DefaultClient.CloseIdleConnections(); return nil }, nil
}

// get asks for one document within the timeout.
func (s *source) get(ctx context.Context, c *ask.Client, path string, q url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no answer within %v (--timeout)", s.timeout))
	defer cancel()
	body, err := c.Get(ctx, path, q)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, exit(exitTimeout, context.Cause(ctx))
	}
	return body, coded(err)
}

// copy passes a document on as it comes. It must begin within the timeout.
func (s *source) copy(ctx context.Context, c *ask.Client, path string, q url.Values, accept string, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := fmt.Errorf("no answer within %v (--timeout)", s.timeout)
	timer := time.AfterFunc(s.timeout, func() { cancel(late) })
	defer timer.Stop()
	err := c.Copy(ctx, path, q, accept, w, func() { timer.Stop() })
	if err != nil && context.Cause(ctx) == late { //nolint:errorlint // the very one
		return exit(exitTimeout, late)
	}
	return coded(err)
}

// coded gives an error of the client its exit code.
func coded(err error) error {
	var away *ask.Unreachable
	var p *ask.Problem
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return exit(exitSignal, nil)
	case errors.As(err, &away):
		return exit(exitNoServer, err)
	case errors.As(err, &p):
		return exit(problemCode(p.Status), err)
	}
	return err
}

func problemCode(status int) int {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMisdirectedRequest:
		return exitDenied
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return exitTimeout
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		return exitUsage
	case http.StatusConflict:
		return exitRefused
	}
	return exitFinding
}

// look says how an answer is shown.
type look struct {
	output    string
	columns   []string
	noHeaders bool
	numeric   bool
	utc       bool
	files     []string // formats that the server writes and the command passes on
}

func (l *look) flags(cmd *cobra.Command) {
	f, formats := cmd.Flags(), l.formats()
	f.StringVarP(&l.output, "output", "o", "table", "format: "+strings.Join(formats, ", "))
	f.StringSliceVar(&l.columns, "columns", nil, "columns of table, wide and csv, by their JSON names")
	f.BoolVar(&l.noHeaders, "no-headers", false, "leave column titles and comment lines out")
	f.BoolVarP(&l.numeric, "numeric", "n", false, "addresses instead of names")
	f.BoolVar(&l.utc, "utc", false, "times in UTC instead of local time")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// formats lists what -o takes.
func (l *look) formats() []string { return slices.Concat(formats, l.files) }

// file reports whether the format is one that the server writes whole.
func (l *look) file() bool { return slices.Contains(l.files, l.output) }

func (l *look) check() error {
	if formats := l.formats(); !slices.Contains(formats, l.output) {
		return usagef("-o %q: expected %s%s", l.output, strings.Join(formats, ", "), nearest.Behind(l.output, formats))
	}
	if len(l.columns) > 0 && !slices.Contains([]string{"table", "wide", "csv"}, l.output) {
		return usagef("--columns goes with -o table, wide or csv; -o %s always has every column", l.output)
	}
	return nil
}

func (l *look) options() answer.Options {
	o := answer.Options{Wide: l.output == "wide", Columns: l.columns, NoHeaders: l.noHeaders, Numeric: l.numeric, Location: time.Local, Now: time.Now()}
	if l.utc {
		o.Location = time.UTC
	}
	return o
}

// print writes an answer: body as the server sent it, doc the same decoded.
func (l *look) print(w io.Writer, body []byte, doc any) error {
	var err error
	switch l.output {
	case "json":
		_, err = w.Write(body)
	case "jsonl":
		err = answer.JSONL(w, doc)
	case "yaml":
		err = answer.YAML(w, body)
	case "csv":
		err = answer.CSV(w, doc, l.columns, !l.noHeaders)
	case "table":
		o, left := l.options(), []string{}
		_, o.Width = terminalSize(w)
		o.Left = &left
		err = answer.Table(w, doc, o)
		if err == nil && len(left) > 0 {
			fmt.Fprintf(os.Stderr, "the terminal is too narrow for %s: -o wide shows all\n", strings.Join(left, ", "))
		}
	default:
		err = answer.Table(w, doc, l.options())
	}
	var column *answer.ColumnError
	if errors.As(err, &column) {
		return exit(exitUsage, fmt.Errorf("--columns: %w", err))
	}
	return err
}

// inquiry is one run of an ask command about rows.
type inquiry struct {
	source
	look
	report       string // path below /api/v1
	one          string // name of a row
	doc          func() any
	columnNames  []string
	since, until string
	sort         string
	limit        int
	follow       bool
	filter       string
	extra        func(url.Values) error // further parameters; nil for none
	judge        func(doc any) error    // what the answer means for the exit code; nil for nothing
	// instead shows something else in place of an answer, and reports whether it did; nil for nothing.
	instead func(cmd *cobra.Command, c *ask.Client, doc any) (bool, error)
}

// newInquiry returns the command of a report with rows of type T in a document of type D.
func newInquiry[D, T any](name, one, short, long, example string) *cobra.Command {
	return inquiryCommand[D, T](&inquiry{}, name, one, short, long, example)
}

// inquiryCommand is newInquiry for an inquiry that the caller changes further.
func inquiryCommand[D, T any](in *inquiry, name, one, short, long, example string) *cobra.Command {
	in.report, in.one, in.doc, in.columnNames, in.look = name, one, func() any { return new(D) }, answer.Columns[T](), look{files: []string{"parquet"}}
	cmd := in.command(name+" [FILTER...]", short, long, example, "1h")
	in.sortFlags(cmd)
	cmd.Flags().BoolVarP(&in.follow, "follow", "f", false, "keep showing what is new, until interrupted")
	return cmd
}

// command returns a command with the flags that all reports have; trailing words are the filter.
func (in *inquiry) command(use, short, long, example, since string) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, GroupID: "ask",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.filter = strings.Join(args, " ")
			return in.run(cmd)
		},
		ValidArgsFunction: completeFilter(&in.source),
	}
	in.source.flags(cmd)
	in.look.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&in.since, "since", since, `start of the range: a duration ago, "today", "15:04", "2026-01-02 15:04", RFC 3339, "now-15m"`)
	f.StringVar(&in.until, "until", "now", "end of the range")
	f.IntVar(&in.limit, "limit", 0, "rows at most (default the report's own limit)")
	_ = cmd.RegisterFlagCompletionFunc("columns", cobra.FixedCompletions(in.columnNames, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// sortFlags adds the flag of reports that can be sorted.
func (in *inquiry) sortFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&in.sort, "sort", "", `column to sort by, "-" before it for greatest first (default the report's own order)`)
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(in.columnNames, cobra.ShellCompDirectiveNoFileComp))
}

// query gives the parameters of the API. Relative times stay relative; the server resolves them.
func (in *inquiry) query() (url.Values, error) {
	q := url.Values{}
	for name, text := range map[string]string{"from": in.since, "to": in.until} {
		t, err := ask.Moment(text, time.Now(), in.options().Location)
		if err != nil {
			flag := map[string]string{"from": "--since", "to": "--until"}[name]
			return nil, usagef("%s: %w", flag, err)
		}
		q.Set(name, t)
	}
	if in.filter != "" {
		q.Set("f", in.filter)
	}
	if in.sort != "" {
		q.Set("sort", in.sort)
	}
	if in.limit != 0 {
		q.Set("limit", strconv.Itoa(in.limit))
	}
	if in.file() {
		q.Set("format", in.output)
	}
	if in.extra != nil {
		return q, in.extra(q)
	}
	return q, nil
}

func (in *inquiry) run(cmd *cobra.Command) (err error) {
	if err := in.check(); err != nil {
		return err
	}
	q, err := in.query()
	if err != nil {
		return err
	}
	c, done, err := in.open(cmd.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if in.follow && in.file() {
		return usagef("--follow does not go with -o %s", in.output)
	}
	if in.follow {
		return in.followWith(cmd, c, q)
	}
	if in.file() {
		body, err := in.get(cmd.Context(), c, "api/v1/"+in.report, q)
		if err == nil {
			_, err = cmd.OutOrStdout().Write(body)
		}
		return err
	}
	body, doc, err := in.answer(cmd.Context(), c, q)
	if err != nil {
		return err
	}
	if in.instead != nil {
		if done, err := in.instead(cmd, c, doc); done || err != nil {
			return err
		}
	}
	if err := in.print(cmd.OutOrStdout(), body, doc); err != nil {
		return err
	}
	if err := in.foot(cmd.ErrOrStderr(), doc); err != nil || in.judge == nil {
		return err
	}
	return in.judge(doc)
}

// answer asks once and decodes.
func (in *inquiry) answer(ctx context.Context, c *ask.Client, q url.Values) ([]byte, any, error) {
	body, err := in.get(ctx, c, "api/v1/"+in.report, q)
	if err != nil {
		return nil, nil, err
	}
	doc := in.doc()
	if err := json.Unmarshal(body, doc); err != nil {
		return nil, nil, fmt.Errorf("%s: answer of %s: %w", in.report, c.Server(), err)
	}
	if m := answer.MetaOf(doc); m != nil && m.Schema > report.SchemaVersion {
		return nil, nil, fmt.Errorf("%s: the server speaks schema %d, this command knows up to %d; use a newer crosstap", in.report, m.Schema, report.SchemaVersion)
	}
	return body, doc, nil
}

// foot writes the line of totals and gaps under an answer for people.
func (in *inquiry) foot(w io.Writer, doc any) error {
	m := answer.MetaOf(doc)
	if m == nil || in.output == "json" || in.output == "yaml" {
		return nil
	}
	_, err := io.WriteString(w, answer.Footer(m, in.one, answer.RowCount(doc), in.options()))
	return err
}
