package main

import (
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/machine"
	"crosstap/internal/control/platform/remote"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
	"crosstap/internal/obs"
)

const platformLong = `platform lets a control line on another machine see and tap this machine's bridges: it reads and changes this kernel as it is told on its standard
input, and answers on its standard output. Nobody types it: a control line with a platform linux=ssh://USER@HOST starts it through ssh.

It needs CAP_NET_ADMIN to change taps, and CAP_SYS_ADMIN to see into other network namespaces. A key that may do nothing else has this line in
authorized_keys:

  restrict,command="sudo -n crosstap platform" ssh-ed25519 AAAA… control line`

func newPlatform() *cobra.Command {
	return &cobra.Command{
		Use: "platform", GroupID: "run", Short: "Let a control line tap this machine through ssh", Long: platformLong, Args: cobra.NoArgs,
		Example: `  crosstap plan -f taps.yaml --platform linux=ssh://root@kvm-4
  crosstap get ports --platform 'linux=ssh://tap@kvm-4?command=sudo+-n+crosstap+platform'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGPIPE) // when the near end is gone there is still to be tidied up
			log := obs.Logger(cmd.ErrOrStderr(), false)
			return remote.Serve(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), func(r remote.Resource) (platform.Platform, error) {
				return openMachine(r, log)
			})
		},
	}
}

// openMachine makes the platform that another machine's control line asks for.
func openMachine(r remote.Resource, log *slog.Logger) (platform.Platform, error) {
	if r.Kind != "linux" {
		return nil, fmt.Errorf("platform of kind %q: this end has linux alone", r.Kind)
	}
	segments := map[string]flow.Segment{}
	for where, text := range r.Segments {
		s, err := policy.ParseSegment(text)
		if err != nil {
			return nil, fmt.Errorf("segment of %s: %w", where, err)
		}
		segments[where] = s
	}
	return machine.Linux(machine.Resource{Name: r.Name, Address: r.Address, Host: r.Host, Segments: segments, Options: r.Options}, log)
}
