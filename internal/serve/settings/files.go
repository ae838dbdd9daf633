package settings

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"crosstap/internal/identity"
)

// CheckFiles finds files that a server would not start with: the inventory and certificates. Check looks into the others. The error begins with
// where the setting comes from.
func (s Settings) CheckFiles(from Origins) error {
	if s.Inventory != "" {
		if _, err := identity.Load(s.Inventory); err != nil {
			return fmt.Errorf("%s: %w", from["inventory"], err)
		}
	}
	for _, p := range []struct{ name, cert, key string }{{"flows-cert", s.FlowsCert, s.FlowsKey}, {"agents-cert", s.AgentsCert, s.AgentsKey}} {
		if p.cert == "" || p.key == "" {
			continue
		}
		if _, err := tls.LoadX509KeyPair(p.cert, p.key); err != nil {
			return fmt.Errorf("%s: %s: certificate %s, key %s: %w", from[p.name], p.name, p.cert, p.key, err)
		}
	}
	if s.FlowsClientCA != "" {
		pem, err := os.ReadFile(s.FlowsClientCA)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = errors.New(s.FlowsClientCA + ": no certificate in it")
		}
		if err != nil {
			return fmt.Errorf("%s: flows-client-ca: %w", from["flows-client-ca"], err)
		}
	}
	return nil
}
