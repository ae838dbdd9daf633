package controlapi

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/ovs"
	"crosstap/internal/control/platform/vsphere"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
	"crosstap/internal/pki"
)

// connectors make platforms by kind. Kinds that only some systems have are added in files of their own.
var connectors = map[string]func(r *policy.Platform, log *slog.Logger) (platform.Platform, error){
	"ovs": connectOVS, "vsphere": connectVSphere,
}

// Connect makes platforms of resources.
func Connect(log *slog.Logger) control.Connect {
	return func(r *policy.Platform) (platform.Platform, error) {
		make, ok := connectors[r.Kind]
		if !ok {
			return nil, fmt.Errorf("platforms of kind %s are not in this build of crosstap", r.Kind)
		}
		return make(r, log)
	}
}

func segmentsOf(r *policy.Platform) map[string]flow.Segment {
	out := map[string]flow.Segment{}
	for where, text := range r.Segments {
		out[where], _ = policy.ParseSegment(text) // checked when it was read
	}
	return out
}

func connectOVS(r *policy.Platform, log *slog.Logger) (platform.Platform, error) {
	exports, err := ovs.ParseOptions(r.Options)
	if err != nil {
		return nil, err
	}
	c := ovs.Config{
		Name: r.Name, Address: r.Address, Host: r.Host, Segments: segmentsOf(r), OpenFlow: r.OpenFlow, Thumbprint: r.TLS.Thumbprint, Bridge: r.Options["bridge"], Exports: exports, Log: log,
	}
	if strings.HasPrefix(r.Address, "ssl:") || strings.HasPrefix(r.OpenFlow, "ssl:") {
		if c.TLS, err = (pki.Client{CA: r.TLS.CA, Cert: r.TLS.Cert, Key: r.TLS.Key, ServerName: r.TLS.ServerName}).Config(); err != nil {
			return nil, err
		}
	}
	return ovs.New(c)
}

func connectVSphere(r *policy.Platform, _ *slog.Logger) (platform.Platform, error) {
	c := vsphere.Config{
		Name: r.Name, Address: r.Address, User: r.User, CAFile: r.TLS.CA,
		Thumbprint: r.TLS.Thumbprint, ServerName: r.TLS.ServerName, Segments: segmentsOf(r), Options: r.Options,
	}
	if r.Password != (policy.Secret{}) { // else it says itself where it looks
		c.Password = func() (string, error) { return secret(r.Password) }
	}
	return vsphere.New(c)
}

// secret reads a password from where it is.
func secret(s policy.Secret) (string, error) {
	switch {
	case s.File != "":
		b, err := os.ReadFile(s.File)
		return strings.TrimRight(string(b), "\r\n"), err
	case s.Env != "":
		v, ok := os.LookupEnv(s.Env)
		if !ok {
			return "", fmt.Errorf("the variable %s is not set", s.Env)
		}
		return v, nil
	}
	return "", errors.New("no password: write password: {file: PATH} or {env: NAME}")
}
