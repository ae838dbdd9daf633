// Package clickhouse keeps flow records in ClickHouse: one server, or a cluster with replicas and shards. It stores the same rows
// as package segment and answers the same questions; those come in the SQL of the store's views, which package dialect says in
// ClickHouse's.
//
// Tables, in one database:
//
//	flows        the rows (on a cluster: Distributed over flows_local)
//	pairs_1h     roll-ups of hours that are over
//	rolled       which roll-up of an hour is in force
//	corrected    rows as they shall be, while rows are corrected
//	corrections  which of them are in force
//	looked       which hours agree with which version of the inventory
//	turns        whose turn it is to settle hours
//	gaps         notes about missing records
//	migrations   the version of all this
package clickhouse

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/collect/store"
)

// Config says where the store is and how it behaves. A zero field means its default.
type Config struct {
	Addrs    []string // HOST:PORT of the native protocol, some of the cluster
	Database string   // made when it is not there; "crosstap"
	User     string   // "default"
	Password string
	TLS      *tls.Config // nil for none

	Cluster    string // name of a cluster: tables are made on all of its servers, and rows are spread over its shards
	Replicated bool   // the tables are replicated, by the server's macros {shard} and {replica}
	EachServer bool   // of Addrs gets the tables one by one: the cluster has no Keeper, so no ON CLUSTER

	FlushInterval time.Duration // records are stored after that long; 2 s
	FlushRows     int           // or when that many wait; 100,000
	MaxPending    int           // rows in memory at most; 4 × FlushRows
	AppendWait    time.Duration // how long Append waits for room before it sheds; 1 s
	KeepFor       time.Duration // rows older than that are deleted by the server; 0 keeps them
	KeepRollups   time.Duration // the same for roll-ups
	RollAfter     time.Duration // an hour is rolled up that long after its end; 10 min. Negative: this process rolls nothing up

	QueryMemory  int64 // of one question on the server, bytes; 0 for the server's own limit
	QueryThreads int   // of one question; 0 for the server's own choice

	Inventory store.Inventory // what corrects stored rows; nil for none

	SettleWait time.Duration // how long who settles hours waits for others, servers and views; 1 s and 5 s
	ReadOnly   bool          // only asks
	Log        *slog.Logger
	Now        func() time.Time
}

// Scheme begins the URLs of such stores.
const Scheme = "clickhouse://"

// IsURL reports whether a store is named by a URL of ours, and not by a directory.
func IsURL(s string) bool {
	return strings.HasPrefix(s, Scheme) || strings.HasPrefix(s, "clickhouses://")
}

// options of URLs, behind the question mark.
var urlOptions = []string{"cluster", "replicated", "each-server", "password-file", "ca", "cert", "key", "insecure"}

var word = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ParseURL reads clickhouse://[USER[:PASSWORD]@]HOST[:PORT][,HOST…]/[DATABASE][?OPTIONS], or clickhouses:// for TLS. Options are cluster=NAME,
// replicated=true, each-server=true, password-file=FILE, and ca=, cert=, key= with files in PEM.
func ParseURL(s string) (c Config, err error) {
	fail := func(format string, args ...any) (Config, error) {
		return Config{}, fmt.Errorf("clickhouse: %s: %s", Redacted(s), fmt.Sprintf(format, args...))
	}
	if !IsURL(s) {
		return fail("want clickhouse://HOST:9000/DATABASE")
	}
	scheme, rest, _ := strings.Cut(s, "://")
	hosts := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		hosts = rest[:i]
	}
	at := strings.LastIndexByte(hosts, '@')
	list := strings.Split(hosts[at+1:], ",")
	u, err := url.Parse(scheme + "://" + hosts[:at+1] + "h" + rest[len(hosts):]) // package url knows one host only
	if err != nil {
		return fail("not a URL")
	}
	c.User = u.User.Username()
	c.Password, _ = u.User.Password()
	port := "9000"
	if scheme == "clickhouses" {
		port = "9440"
	}
	for _, h := range list {
		if h == "" {
			return fail("a host is missing")
		}
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
		c.Addrs = append(c.Addrs, h)
	}
	c.Database = strings.Trim(u.Path, "/")
	if c.Database != "" && !word.MatchString(c.Database) {
		return fail("database %q: letters, digits and _ only", c.Database)
	}
	if err := c.options(u.Query(), scheme == "clickhouses"); err != nil {
		return fail("%v", err)
	}
	return c, nil
}

// options reads what stands behind the question mark.
func (c *Config) options(q url.Values, secure bool) (err error) {
	for k := range q {
		known := false
		for _, o := range urlOptions {
			known = known || o == k
		}
		if !known {
			return fmt.Errorf("option %q: expected one of %s", k, strings.Join(urlOptions, ", "))
		}
	}
	c.Cluster = q.Get("cluster")
	if c.Cluster != "" && !word.MatchString(c.Cluster) {
		return fmt.Errorf("cluster %q: letters, digits and _ only", c.Cluster)
	}
	for k, p := range map[string]*bool{"replicated": &c.Replicated, "each-server": &c.EachServer} {
		if v := q.Get(k); v != "" {
			if *p, err = strconv.ParseBool(v); err != nil {
				return fmt.Errorf("%s=%s: expected true or false", k, v)
			}
		}
	}
	if f := q.Get("password-file"); f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("password-file: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		c.Password = strings.TrimRight(line, "\r")
	}
	if !secure {
		if q.Has("ca") || q.Has("cert") || q.Has("key") || q.Has("insecure") {
			return errors.New("options for TLS are given; write clickhouses://")
		}
		return nil
	}
	c.TLS, err = tlsConfig(q)
	return err
}

func tlsConfig(q url.Values) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: q.Get("insecure") == "true"} //nolint:gosec // the operator says so
	if f := q.Get("ca"); f != "" {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s has no certificate in PEM", f)
		}
	}
	if cert, key := q.Get("cert"), q.Get("key"); cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

var secret = regexp.MustCompile(`//([^/@]*):[^/@]*@`)

// Redacted is a URL without its password.
func Redacted(s string) string { return secret.ReplaceAllString(s, "//$1:…@") }

// String names the store without its secrets.
func (c Config) String() string {
	return Scheme + strings.Join(c.Addrs, ",") + "/" + c.Database
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Addrs) == 0 {
		return c, errors.New("no server is named")
	}
	def := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.FlushInterval, 2*time.Second)
	def(&c.AppendWait, time.Second)
	def(&c.RollAfter, 10*time.Minute)
	if c.FlushRows <= 0 {
		c.FlushRows = 100_000
	}
	c.MaxPending = max(c.MaxPending, c.FlushRows)
	if c.MaxPending == c.FlushRows {
		c.MaxPending = 4 * c.FlushRows
	}
	if c.Database == "" {
		c.Database = "crosstap"
	}
	if c.User == "" {
		c.User = "default"
	}
	if (c.Replicated || c.EachServer) && c.Cluster == "" {
		return c, errors.New("replicated tables and each-server need the name of a cluster")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}
