package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/obs"
	"crosstap/internal/rpcap"
	"crosstap/internal/tap"
	"crosstap/internal/tap/capture"
)

// extcapName is the name under which this program is one of Wireshark's capture programs.
const extcapName = "crosstap-extcap"

// Names of the interfaces that Wireshark is shown. Those of this host have their own name behind the prefix.
const (
	extcapPrefix = "crosstap-if-"
	extcapMirror = "crosstap-mirror"
	extcapRemote = "crosstap-rpcap"
)

func newExtcap() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "extcap",
		GroupID: "setup",
		Short:   "Be one of Wireshark's capture programs",
		Long: `extcap speaks Wireshark's protocol for capture programs (extcap). Through it Wireshark and tshark list the interfaces of this host, the
endpoints of remote mirrors and remote RPCAP interfaces, with the options of each, and capture from them with crosstap's filter and groom steps.

crosstap extcap install puts the link crosstap-extcap where Wireshark looks for such programs; Wireshark does the rest.`,
		Example:            "  crosstap extcap install\n  tshark -D | grep crosstap\n  tshark -i crosstap-if-vnet3 -f 'vxlan 5001' -c 10",
		Args:               cobra.ArbitraryArgs,
		DisableFlagParsing: true, // options of newer versions are passed over
		RunE: func(cmd *cobra.Command, args []string) error {
			x := parseExtcap(args)
			if x.help || len(x.set) == 0 {
				return cmd.Help()
			}
			return x.run(cmd)
		},
	}
	cmd.AddCommand(newExtcapInstall())
	return cmd
}

// extcap is one call by Wireshark: its options by their names.
type extcap struct {
	set  map[string]string
	help bool
}

// extcapSwitches are the options without a value.
var extcapSwitches = map[string]bool{"extcap-interfaces": true, "extcap-dlts": true, "extcap-config": true, "capture": true, "debug": true}

// parseExtcap reads --name=value and --name value. What is not known does no harm.
func parseExtcap(args []string) extcap {
	x := extcap{set: map[string]string{}}
	for i := 0; i < len(args); i++ {
		name, ok := strings.CutPrefix(args[i], "--")
		if !ok {
			x.help = x.help || args[i] == "-h"
			continue
		}
		name, value, has := strings.Cut(name, "=")
		if name == "help" {
			x.help = true
		}
		if !has && !extcapSwitches[name] && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			value = args[i]
		}
		x.set[name] = value
	}
	return x
}

func (x extcap) has(name string) bool { _, ok := x.set[name]; return ok }

// run does what Wireshark asks for.
func (x extcap) run(cmd *cobra.Command) error {
	w := cmd.OutOrStdout()
	if x.has("extcap-interfaces") {
		return extcapInterfaces(w)
	}
	name := x.set["extcap-interface"]
	if name == "" {
		return usagef("extcap: no --extcap-interface")
	}
	if name != extcapMirror && name != extcapRemote && !strings.HasPrefix(name, extcapPrefix) {
		return usagef("extcap: interface %q: want %sNAME, %s or %s", name, extcapPrefix, extcapMirror, extcapRemote)
	}
	switch {
	case x.has("extcap-dlts"):
		_, err := io.WriteString(w, extcapLinks(name))
		return err
	case x.has("extcap-config"):
		_, err := io.WriteString(w, extcapConfig(name))
		return err
	case x.has("capture"):
		return x.capture(cmd, name)
	case x.has("extcap-capture-filter"):
		return extcapFilter(w, x.set["extcap-capture-filter"])
	}
	return usagef("extcap: want one of --extcap-interfaces, --extcap-dlts, --extcap-config, --capture, --extcap-capture-filter")
}

func extcapInterfaces(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "extcap {version=%s}{display=crosstap}\n", obs.Version().Version)
	all, err := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 {
			fmt.Fprintf(&b, "interface {value=%s%s}{display=crosstap: %s}\n", extcapPrefix, i.Name, i.Name)
		}
	}
	fmt.Fprintf(&b, "interface {value=%s}{display=crosstap: remote mirror (ERSPAN, VXLAN, GRE, Geneve, TZSP)}\n", extcapMirror)
	fmt.Fprintf(&b, "interface {value=%s}{display=crosstap: remote interface (RPCAP)}\n", extcapRemote)
	if _, errWrite := io.WriteString(w, b.String()); errWrite != nil {
		return errWrite
	}
	return err
}

// extcapLinks names the link type that Wireshark shows; the capture file tells the true ones of each interface.
func extcapLinks(name string) string {
	if i, err := net.InterfaceByName(strings.TrimPrefix(name, extcapPrefix)); err == nil && len(i.HardwareAddr) == 0 && i.Flags&net.FlagLoopback == 0 {
		return "dlt {number=12}{name=RAW}{display=Raw IP}\n"
	}
	return "dlt {number=1}{name=EN10MB}{display=Ethernet}\n"
}

// extcapConfig describes the options of an interface.
func extcapConfig(name string) string {
	var b strings.Builder
	n := 0
	arg := func(call, display, kind, rest string) {
		fmt.Fprintf(&b, "arg {number=%d}{call=--%s}{display=%s}{type=%s}%s\n", n, call, display, kind, rest)
		n++
	}
	switch name {
	case extcapMirror:
		arg("listen", "Endpoint", "string", "{default=erspan://}{required=true}{tooltip=erspan://, gre://, vxlan://:4789, geneve://, tzsp://, udp://:PORT; several with spaces; ?session=5 chooses}")
	case extcapRemote:
		arg("url", "Interface", "string", "{placeholder=rpcap://HOST/eth0}{required=true}{tooltip=rpcap://[USER@]HOST[:2002]/INTERFACE, rpcaps:// for TLS}")
		arg("password", "Password", "password", "{tooltip=of the user in the URL}")
	default:
		arg("promiscuous", "Promiscuous mode", "boolean", "{default=true}{tooltip=also frames that are addressed to others}")
	}
	arg("groom", "Groom steps", "string", "{tooltip=repair, strip, dedup, sample, slice, mask, tag, as for crosstap tap --groom}")
	arg("snap", "Bytes of each frame", "integer", "{range=0,262144}{default=0}{tooltip=0 keeps whole frames}")
	return b.String()
}

// extcapFilter says what is wrong with a capture filter; nothing when it is right.
func extcapFilter(w io.Writer, expr string) error {
	var first error
	for _, link := range []frame.LinkType{frame.LinkEthernet, frame.LinkRaw} {
		_, err := filter.Compile(expr, link, filter.Options{Resolver: newResolver()})
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	_, err := fmt.Fprintln(w, pointed(expr, first))
	return err
}

// capture writes pcapng into Wireshark's pipe until Wireshark closes it or sends SIGTERM.
func (x extcap) capture(cmd *cobra.Command, name string) error {
	fifo := x.set["fifo"]
	if fifo == "" {
		return usagef("extcap: --capture needs --fifo")
	}
	s := tap.DefaultSpec()
	if err := x.source(&s, name); err != nil {
		return err
	}
	if v := x.set["snap"]; v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return usagef("extcap: --snap %s: want a number of bytes", v)
		}
		s.SnapLen = n
	}
	s.Filter, s.To = x.set["extcap-capture-filter"], []string{"pcapng:" + fifo}
	t := tapFlags{spec: s, ring: byteSize(s.RingBytes), key: s.Key.String(), groom: x.set["groom"], noPromisc: x.set["promiscuous"] == "false"}
	cmd.SetErr(io.Discard) // Wireshark takes every word for an error
	if err := t.complete(cmd); err != nil {
		return err
	}
	if len(s.Interfaces) == 0 {
		return runTap(cmd, t.spec, progress{never: true})
	}
	return whileThere(cmd, s.Interfaces[0], func() error { return runTap(cmd, t.spec, progress{never: true}) })
}

// whileThere runs f until an interface of this host goes away, which is an error, as it is when the interface is down at first. A tap waits
// for its interface to come back, and logs that; whoever looks at Wireshark's window would see a capture without packets.
func whileThere(cmd *cobra.Command, name string, f func() error) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return f() // it knows what there is instead
	}
	if i.Flags&net.FlagUp == 0 {
		return exit(exitFinding, fmt.Errorf("extcap: interface %s is down: ip link set %s up", name, name))
	}
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	gone := fmt.Errorf("extcap: interface %s is gone", name)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			if now, err := net.InterfaceByName(name); err != nil || now.Index != i.Index {
				cancel(gone)
			}
		}
	}()
	cmd.SetContext(ctx)
	if err := f(); err != nil || context.Cause(ctx) != gone {
		return err
	}
	return exit(exitFinding, gone)
}

// source sets where the frames of an interface come from.
func (x extcap) source(s *tap.Spec, name string) error {
	switch name {
	case extcapMirror:
		s.Listen = strings.Fields(x.set["listen"])
		if len(s.Listen) == 0 {
			s.Listen = []string{"erspan://"}
		}
		for _, e := range s.Listen {
			if _, err := capture.ParseEndpoint(e); err != nil {
				return exit(exitUsage, err)
			}
		}
	case extcapRemote:
		target := x.set["url"]
		if !rpcap.IsTarget(target) {
			return usagef("extcap: set the interface: rpcap://[USER@]HOST/INTERFACE")
		}
		s.Remotes = []string{withPassword(target, x.set["password"])}
	default:
		s.Interfaces = []string{strings.TrimPrefix(name, extcapPrefix)}
	}
	return nil
}

// withPassword adds a password to the user of a URL.
func withPassword(target, password string) string {
	u, err := url.Parse(target)
	if err != nil || password == "" {
		return target
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String()
}

func newExtcapInstall() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put the link crosstap-extcap where Wireshark looks for capture programs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return exit(exitFinding, err)
			}
			note := ""
			if dir == "" {
				if dir, note, err = extcapDir(); err != nil {
					return exit(exitFinding, err)
				}
			}
			link, err := linkExtcap(self, dir)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), link)
			if note != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "crosstap: extcap:", note)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder of the link (default: where the installed Wireshark looks)")
	return cmd
}

// extcapDir asks the installed Wireshark where it looks: root gets the folder of all users, others their own. note is what the user has
// to do besides.
func extcapDir() (dir, note string, err error) {
	out, _ := exec.Command("tshark", "-G", "folders").Output()
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(line, ":")
		found[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	global, personal := found["extcap path"], found["personal extcap path"]
	if global == "" {
		global = found["global extcap path"]
	}
	switch {
	case os.Geteuid() == 0 && global != "":
		return global, "", nil
	case personal != "":
		return personal, "", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(home, ".local", "lib", "wireshark", "extcap")
	if global != "" {
		note = fmt.Sprintf("this Wireshark looks in %s only: set WIRESHARK_EXTCAP_DIR=%s, or run crosstap extcap install as root", global, dir)
	}
	return dir, note, nil
}

// linkExtcap makes the link, or renews it. Another program of that name stays.
func linkExtcap(self, dir string) (string, error) {
	link := filepath.Join(dir, extcapName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", exit(exitDenied, fmt.Errorf("extcap: %w", err))
	}
	if st, err := os.Lstat(link); err == nil {
		if st.Mode()&os.ModeSymlink == 0 {
			return "", exit(exitRefused, fmt.Errorf("extcap: %s is there and no link: remove it first", link))
		}
		if err := os.Remove(link); err != nil {
			return "", exit(exitDenied, fmt.Errorf("extcap: %w", err))
		}
	}
	if err := os.Symlink(self, link); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return "", exit(exitDenied, fmt.Errorf("extcap: %w: run as root, or name a folder with --dir", err))
		}
		return "", exit(exitFinding, fmt.Errorf("extcap: %w", err))
	}
	return link, nil
}
