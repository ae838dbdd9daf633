// Package vsim is a vCenter, or a single ESXi host, for tests and trials: govmomi's simulator over HTTPS with what it lacks for
// taps. Distributed switches keep their mirror sessions and IPFIX settings and check versions and privileges; virtual adapters have
// distributed ports; VMs migrate; the same standard port group may be on many hosts; and a small data plane copies frames as the
// sessions say. It is written from VMware's API reference, not from a real vCenter's behaviour.
package vsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	_ "github.com/vmware/govmomi/vapi/simulator" // tags
)

// Config says what is simulated.
type Config struct {
	ESX         bool   // one ESXi host without a vCenter
	Hosts       int    // in one cluster; 0 for 2
	VMs         int    // with one adapter each on the distributed port group DC0_DVPG0, spread over the hosts; 0 for 4
	Listen      string // "" for a free port on 127.0.0.1
	User        string // of the administrator; "" for "administrator@vsphere.local"
	Password    string // "" for "secret"
	MaxSessions int    // mirror sessions of one switch; 0 for 16
}

func (c Config) withDefaults() Config {
	set := func(to *int, n int) {
		if *to == 0 {
			*to = n
		}
	}
	set(&c.Hosts, 2)
	set(&c.VMs, 4)
	set(&c.MaxSessions, 16)
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.User == "" {
		c.User = "administrator@vsphere.local"
	}
	if c.Password == "" {
		c.Password = "secret"
	}
	return c
}

// A Server is a running simulation.
type Server struct {
	URL        string // https://…/sdk, without user
	User       string
	Password   string
	Thumbprint string // SHA-256 of the certificate, as vSphere writes it
	CertPEM    []byte

	model *simulator.Model
	http  *simulator.Server
	x     *extension
}

var creating sync.Mutex

// Start begins a simulation. Close ends it.
func Start(c Config) (*Server, error) {
	c = c.withDefaults()
	model := simulator.VPX()
	if c.ESX {
		model = simulator.ESX()
	}
	model.Host, model.Cluster, model.ClusterHost, model.Machine = 0, 1, c.Hosts, c.VMs
	creating.Lock() // vcsim makes all models through one session
	err := model.Create()
	creating.Unlock()
	if err != nil {
		return nil, fmt.Errorf("vsim: model: %w", err)
	}
	pair, certPEM, err := certificate()
	if err != nil {
		model.Remove()
		return nil, err
	}
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	model.Service.Listen = &url.URL{Host: c.Listen, User: url.UserPassword(c.User, c.Password)}
	model.Service.RegisterEndpoints = true
	s := &Server{User: c.User, Password: c.Password, CertPEM: certPEM, Thumbprint: soap.ThumbprintSHA256(pair.Leaf), model: model}
	s.x = install(model, c)
	s.http = model.Service.NewServer()
	u := *s.http.URL
	u.User = nil
	s.URL = u.String()
	return s, nil
}

// Close ends the simulation and removes its files.
func (s *Server) Close() {
	s.http.Close()
	s.model.Remove()
}

// certificate makes a self-signed one for the loopback addresses.
func certificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("vsim: key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "vsim"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("vsim: certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("vsim: certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// AddUser lets somebody else log in, who has these privileges and no other.
func (s *Server) AddUser(name, password string, privileges ...string) {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	u := user{password: password, has: map[string]bool{}}
	for _, p := range privileges {
		u.has[p] = true
	}
	s.x.users[name] = u
}

// Conflict lets the next n reconfigurations of switches and port groups find that somebody else was quicker (ConcurrentAccess).
func (s *Server) Conflict(n int) {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	s.x.conflicts = n
}

// Fail lets the next n calls of a method, such as "ReconfigureDvs_Task", answer with a fault.
func (s *Server) Fail(method string, n int, fault types.BaseMethodFault) {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	for range n {
		s.x.faults[method] = append(s.x.faults[method], fault)
	}
}

// FailTask lets the next reconfiguration of a switch end with a fault after it was stored, as when hosts did not take it.
func (s *Server) FailTask(fault types.BaseMethodFault) {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	s.x.taskFaults = append(s.x.taskFaults, fault)
}

// Calls returns how often a method was called.
func (s *Server) Calls(method string) int {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	return s.x.calls[method]
}

// DropSessions ends all sessions, as a restart of the vCenter does.
func (s *Server) DropSessions() {
	s.x.mu.Lock()
	keys := s.x.seen
	s.x.seen = nil
	var waiting []*simulator.PropertyCollector
	for registry := range s.x.registries {
		for _, o := range registry.AllReference("PropertyCollector") {
			if pc, ok := o.(*simulator.PropertyCollector); ok {
				waiting = append(waiting, pc)
			}
		}
	}
	s.x.mu.Unlock()
	ctx := &simulator.Context{Session: &simulator.Session{}}
	for _, key := range keys {
		s.model.Map().SessionManager().TerminateSession(ctx, &types.TerminateSession{SessionId: []string{key}})
	}
	for _, pc := range waiting {
		pc.CancelWaitForUpdates(&types.CancelWaitForUpdates{})
	}
}

// user is who may log in.
type user struct {
	password string
	has      map[string]bool // nil for everything
}

// extension is the state that vcsim does not keep. Its own lock comes last: nothing else is locked or told to property collectors
// while it is held.
type extension struct {
	registry    *simulator.Registry
	maxSessions int

	mu         sync.Mutex
	users      map[string]user
	conflicts  int
	faults     map[string][]types.BaseMethodFault
	taskFaults []types.BaseMethodFault
	calls      map[string]int
	registries map[*simulator.Registry]bool // of sessions: they hold our wrappers
	seen       []string                     // keys of sessions
	switches   map[string]*dvSwitch         // by moref value
	groups     map[string]*dvGroup          // by key, which is the moref value
	sessionKey int
	cloning    int // clones that vcsim is making
	plane      plane
}

// Login returns the address with the administrator's name and password in it, for clients of the API.
func (s *Server) Login() *url.URL {
	u := *s.http.URL
	u.User = url.UserPassword(s.User, s.Password)
	return &u
}
