// Package vsphere is the platform room for VMware vSphere: a vCenter with all its hosts, or one ESXi host on its own. It follows the
// inventory, and makes mirror sessions, flow exports and capture ports on distributed and standard switches.
package vsphere

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// Config says which vCenter or ESXi host, and how to get in.
type Config struct {
	Name string // of the Platform resource
	// Address is https://HOST[:PORT][/sdk]; /sdk is meant when no path is given. Its query may say what the fields below do not:
	// user, password_file, thumbprint and ca.
	Address string
	User    string // "" for the query's, or that of $CROSSTAP_VSPHERE_USER
	// Password returns the password each time that somebody logs in. It is neither kept nor written anywhere. nil is the first line
	// of the query's password_file or of $CROSSTAP_VSPHERE_PASSWORD_FILE, or $CROSSTAP_VSPHERE_PASSWORD.
	Password func() (string, error)
	// CAFile holds the authorities in PEM that may have signed the server's certificate; "" for those of the system.
	CAFile string
	// Thumbprint is the SHA-256 of the server's certificate in hexadecimal, with or without colons. When it is set, that certificate
	// and no other is taken, whoever signed it.
	Thumbprint string
	ServerName string                  // in the certificate, when it is not the host of Address
	Segments   map[string]flow.Segment // "switch/VLAN" or a port group's name → segment, where vSphere does not know it
	Fabric     string                  // of all segments; "" is the default one
	Options    map[string]string       // see Options
}

// Options lists the keys of Config.Options with what they mean.
func Options() map[string]string {
	return map[string]string{
		"max-sessions": "mirror sessions that one distributed switch may have, those of others counted; default: no limit of ours",
		"tags-every":   "how often tags are read, such as 30s; 0 for never; default 1m",
		"netstack":     "TCP/IP stack that encapsulated copies leave through: mirror, or the default one",
		"switch-ip":    "IPv4 address that all hosts of a distributed switch export flows from; needed by some versions",
	}
}

// settings is a Config that was found good.
type settings struct {
	Config
	url         *url.URL
	pin         []byte // SHA-256 of the certificate; nil for none
	maxSessions int
	tagsEvery   time.Duration
}

// VSphere is one vCenter or ESXi host. It is a platform.Platform, Prober and Auditor. All methods may be called from any goroutine.
type VSphere struct {
	set settings

	dialing  turn // of who makes a session
	mu       sync.Mutex
	conn     *connection
	switches map[string]string // id of a distributed switch → type of its reference
	names    map[string]string // of hosts and switches, by the ids that faults have
}

var (
	_ platform.Platform = (*VSphere)(nil)
	_ platform.Prober   = (*VSphere)(nil)
	_ platform.Auditor  = (*VSphere)(nil)
)

// New checks the configuration. It connects to nothing.
func New(c Config) (*VSphere, error) {
	set, err := check(c)
	if err != nil {
		return nil, fmt.Errorf("platform %s: %w", c.Name, err)
	}
	return &VSphere{set: set, dialing: newTurn(), switches: map[string]string{}}, nil
}

// Name is the name of the Platform resource.
func (v *VSphere) Name() string { return v.set.Name }

// Kind is "vsphere".
func (v *VSphere) Kind() string { return "vsphere" }

func check(c Config) (settings, error) {
	set := settings{Config: c, tagsEvery: time.Minute}
	u, err := url.Parse(c.Address)
	switch {
	case err != nil:
		return set, fmt.Errorf("address: %w", redacted(err))
	case u.Scheme != "https" || u.Hostname() == "":
		return set, fmt.Errorf("address %q: want https://HOST[:PORT][/sdk]", u.Redacted())
	case u.User != nil:
		return set, fmt.Errorf("address %q: name and password do not belong here, where everybody can see them: give user and password on their own", u.Redacted())
	}
	if err := set.query(u); err != nil {
		return set, err
	}
	if set.User == "" {
		return set, fmt.Errorf("user: is missing: write user: NAME, or set CROSSTAP_VSPHERE_USER")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/sdk"
	}
	set.url = u
	if set.pin, err = parseThumbprint(set.Thumbprint); err != nil {
		return set, err
	}
	return set, set.options(c.Options)
}

// query takes what the address says besides the host, and then what the environment says.
func (s *settings) query(u *url.URL) error {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("address: query: %w", err)
	}
	u.RawQuery = ""
	file := ""
	for key, to := range map[string]*string{"user": &s.User, "password_file": &file, "thumbprint": &s.Thumbprint, "ca": &s.CAFile} {
		if q.Has(key) && *to == "" {
			*to = q.Get(key)
		}
		q.Del(key)
	}
	for key := range q {
		return fmt.Errorf("address: query: there is no %q: user, password_file, thumbprint, ca", key)
	}
	s.User = cmp.Or(s.User, os.Getenv("CROSSTAP_VSPHERE_USER"))
	if s.Password == nil {
		s.Password = PasswordFrom(cmp.Or(file, os.Getenv("CROSSTAP_VSPHERE_PASSWORD_FILE")), "CROSSTAP_VSPHERE_PASSWORD")
	}
	return nil
}

// redacted keeps an address with a password in it out of an error.
func redacted(err error) error {
	if e, ok := err.(*url.Error); ok {
		return e.Err
	}
	return err
}

func parseThumbprint(text string) ([]byte, error) {
	text = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(text)), "sha256:")
	if text == "" {
		return nil, nil
	}
	pin, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(pin) != 32 {
		return nil, fmt.Errorf("thumbprint: want the SHA-256 of the certificate, 64 hexadecimal digits with or without colons (openssl x509 -noout -fingerprint -sha256)")
	}
	return pin, nil
}

func (s *settings) options(o map[string]string) (err error) {
	for key, value := range o {
		switch key {
		case "max-sessions":
			if s.maxSessions, err = strconv.Atoi(value); err != nil || s.maxSessions < 0 {
				return fmt.Errorf("option max-sessions: %q is no number of sessions", value)
			}
		case "tags-every":
			if s.tagsEvery, err = time.ParseDuration(value); err != nil || s.tagsEvery < 0 {
				return fmt.Errorf("option tags-every: %q is no duration such as 30s", value)
			}
		case "netstack":
			if value != "mirror" && value != "" && value != defaultNetstack {
				return fmt.Errorf("option netstack: %q: want mirror or %s", value, defaultNetstack)
			}
		case "switch-ip":
		default:
			known := make([]string, 0, 4)
			for k := range Options() {
				known = append(known, k)
			}
			slices.Sort(known)
			return fmt.Errorf("option %q: there is none: %s", key, strings.Join(known, ", "))
		}
	}
	return nil
}

// PasswordFrom returns a Config.Password that reads a file (its first line) or, without one, an environment variable.
func PasswordFrom(file, env string) func() (string, error) {
	return func() (string, error) {
		if file != "" {
			b, err := os.ReadFile(file)
			if err != nil {
				return "", fmt.Errorf("password: %w", err)
			}
			line, _, _ := strings.Cut(string(b), "\n")
			return strings.TrimSuffix(line, "\r"), nil
		}
		p, ok := os.LookupEnv(env)
		if !ok {
			return "", fmt.Errorf("password: the environment variable %s is not set", env)
		}
		return p, nil
	}
}
