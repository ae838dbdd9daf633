//go:build !agent

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"crosstap/internal/obs"
	"crosstap/internal/serve"
	"crosstap/internal/serve/settings"
	"crosstap/internal/tap"

	"github.com/spf13/cobra"
)

// settingFlags adds a flag for each setting of the server, and --config. The returned function reads all sources.
func settingFlags(cmd *cobra.Command) func() (settings.Settings, settings.Origins, []string, error) {
	file := cmd.Flags().String("config", "", "YAML file with the same keys as the flags (or $CROSSTAP_CONFIG)")
	defaults := settings.Default()
	values := map[string]*raw{}
	for _, k := range settings.All() {
		v := &raw{kind: k.Kind, text: k.Text(defaults)}
		values[k.Key] = v
		f := cmd.Flags().VarPF(v, k.Key, "", k.Help)
		if k.Kind == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	completeWords(cmd, "role", settings.RoleAll, settings.RoleCollector, settings.RoleWriter)
	return func() (settings.Settings, settings.Origins, []string, error) {
		src := settings.Sources{File: *file, Env: os.Environ(), Flags: map[string][]string{}}
		if src.File == "" {
			src.File = os.Getenv("CROSSTAP_CONFIG")
		}
		for key, v := range values {
			if cmd.Flags().Changed(key) {
				src.Flags[key] = v.given
			}
		}
		return settings.Load(src)
	}
}

// raw is a flag whose values are kept as text; package settings understands them.
type raw struct {
	kind, text string
	given      []string
}

func (r *raw) Set(v string) error { r.given = append(r.given, v); return nil }
func (r *raw) String() string     { return r.text }
func (r *raw) Type() string {
	if r.kind == "string" || r.kind == "strings" || r.kind == "bool" {
		return map[string]string{"string": "text", "strings": "text", "bool": ""}[r.kind]
	}
	return r.kind
}

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Collect flows, store them, answer questions", GroupID: "run", Args: cobra.NoArgs,
		Long: `serve receives IPFIX from taps and other exporters, joins the names of VMs and tenants, stores every record, and
serves the console, the API and metrics.

Each flag may also be a variable (CROSSTAP_HTTP for --http) or a key of the file given with --config; the flag wins over
the variable, the variable over the file. "crosstap config show" prints the result and where each value comes from.
Nothing listens beyond loopback unless told to.`,
		Example: `  crosstap serve --data ./flows
  crosstap serve --data /var/lib/crosstap --flows 0.0.0.0:4739 --inventory inventory.yaml
  crosstap serve --config /etc/crosstap/crosstap.yaml`,
	}
	load := settingFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		signal.Ignore(syscall.SIGPIPE) // a log that nobody reads any more ends nothing
		set, _, warnings, err := load()
		if err != nil {
			return exit(exitUsage, err)
		}
		log := obs.Logger(cmd.ErrOrStderr(), set.Verbose)
		for _, w := range warnings {
			log.Warn(w)
		}
		return runServer(cmd.Context(), serve.Config{Settings: set, Log: log})
	}
	return cmd
}

func runServer(ctx context.Context, cfg serve.Config) error {
	ln, err := serve.Activated()
	if err != nil {
		return exit(exitUsage, err)
	}
	cfg.Listener, cfg.TapPath = ln, tap.PathOf
	s, err := serve.New(cfg)
	if err != nil {
		return exit(exitUsage, err)
	}
	switch err = s.Run(ctx); {
	case errors.Is(err, os.ErrPermission):
		return exit(exitDenied, err)
	case err != nil && s.Ready():
		return exit(exitFinding, err)
	case err != nil:
		return exit(exitUsage, err)
	}
	return nil
}

// settingsByFlag refuses a file that is named without its flag.
func settingsByFlag(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no words; did you mean \"%s --config %s\"?", cmd.Name(), cmd.CommandPath(), args[0])
	}
	return nil
}

func newConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check and show the settings of serve", GroupID: "fix", Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	check := &cobra.Command{Use: "check", Short: "Say what is wrong with flags, variables and file", Args: settingsByFlag,
		Long: `check reads the settings of serve as serve would, and the files that they name: inventory, exporters, elements, outputs, certificates. It opens
no port and no store. Mistakes are named with their file, line and column, and what was probably meant.`,
		Example: "  crosstap config check --config /etc/crosstap/crosstap.yaml"}
	loadCheck := settingFlags(check)
	check.RunE = func(cmd *cobra.Command, _ []string) error {
		set, from, warnings, err := loadCheck()
		for _, w := range warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
		}
		if err == nil {
			err = set.CheckFiles(from)
		}
		if err != nil {
			return exit(exitUsage, err)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "ok")
		return err
	}
	show := &cobra.Command{Use: "show", Short: "Print each setting and where it comes from", Args: cobra.NoArgs,
		Example: "  crosstap config show --config /etc/crosstap/crosstap.yaml"}
	var output string
	show.Flags().StringVarP(&output, "output", "o", "table", "format: table, json, yaml")
	loadShow := settingFlags(show)
	show.RunE = func(cmd *cobra.Command, _ []string) error {
		set, from, _, err := loadShow()
		if err != nil {
			return exit(exitUsage, err)
		}
		doc := settingRows{Rows: []settingRow{}}
		for _, k := range settings.All() {
			doc.Rows = append(doc.Rows, settingRow{k.Key, k.Text(set), from[k.Key]})
		}
		return printDocument(cmd.OutOrStdout(), output, doc)
	}
	cmd.AddCommand(check, show)
	return cmd
}

// settingRows is the document of "config show".
type settingRows struct {
	Rows []settingRow `json:"rows"`
}

type settingRow struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}
