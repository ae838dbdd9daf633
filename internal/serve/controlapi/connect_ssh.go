package controlapi

import (
	"fmt"
	"log/slog"
	"maps"
	"net/url"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/remote"
	"crosstap/internal/control/policy"
	"crosstap/internal/rpc"
)

// connectSSH makes the platform of a kernel that ssh leads to: ssh://[USER@]HOST[:PORT]. In a resource options say more; in one line the
// address does, as ssh://root@kvm-4?command=…&keyfile=….
func connectSSH(r *policy.Platform, log *slog.Logger) (platform.Platform, error) {
	u, err := url.Parse(r.Address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", r.Address, err)
	}
	options := map[string]string{}
	maps.Copy(options, r.Options)
	for key, values := range u.Query() {
		options[key] = values[0]
	}
	for key := range options {
		switch key {
		case "command", "keyfile", "libvirt", "access", "netns":
		default:
			return nil, fmt.Errorf("address %s: option %q is not known: command, keyfile, netns, libvirt or access", u.Redacted(), key)
		}
	}
	if _, has := u.User.Password(); has {
		return nil, fmt.Errorf("address %s: no password goes into an address: give ssh a key", u.Redacted())
	}
	if u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("address %s: nothing follows the host; a network namespace there is netns=NAME", u.Redacted())
	}
	c := remote.Config{
		SSH:     rpc.SSH{User: u.User.Username(), Host: u.Hostname(), Port: u.Port(), KeyFile: options["keyfile"]},
		Command: options["command"], Log: log,
		Resource: remote.Resource{Name: r.Name, Kind: "linux", Host: r.Host, Segments: r.Segments, Options: map[string]string{}},
	}
	for _, key := range []string{"libvirt", "access"} {
		if v := options[key]; v != "" {
			c.Resource.Options[key] = v
		}
	}
	if ns := options["netns"]; ns != "" {
		c.Resource.Address = "netns:" + ns
	}
	return remote.New(c)
}
