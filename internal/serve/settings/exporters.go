package settings

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"crosstap/internal/collect/session"
	"crosstap/internal/yamltext"

	"github.com/goccy/go-yaml"
)

// exportersFile is the file of what operators say of exporters. docs/guide/collecting.md describes it.
type exportersFile struct {
	Exporters []exporterEntry `yaml:"exporters"`
}

type exporterEntry struct {
	Address    oneOrMore              `yaml:"address"`
	Domain     *uint32                `yaml:"domain"`
	Sampling   uint32                 `yaml:"sampling"`
	Assume     uint32                 `yaml:"assume-sampling"`
	Scaled     bool                   `yaml:"already-scaled"`
	PortIDs    bool                   `yaml:"port-ids"`
	Switches   map[uint32]switchEntry `yaml:"switches"`
	Interfaces map[uint32]string      `yaml:"interfaces"`
}

type switchEntry struct {
	Name  string            `yaml:"name"`
	Ports map[uint32]string `yaml:"ports"`
}

// oneOrMore is a text or a list of them.
type oneOrMore []string

// UnmarshalYAML reads either.
func (o *oneOrMore) UnmarshalYAML(b []byte) error {
	var one string
	if err := yaml.Unmarshal(b, &one); err == nil {
		*o = oneOrMore{one}
		return nil
	}
	return yaml.Unmarshal(b, (*[]string)(o))
}

// maxExportersFile bounds the file's size.
const maxExportersFile = 16 << 20

// LoadExporters reads the file and checks it. Errors name the file; whoever calls names the setting.
func LoadExporters(path string) ([]session.Rule, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxExportersFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxExportersFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxExportersFile)
	}
	rules, err := parseExporters(b)
	if err != nil {
		return nil, yamltext.In(path, err)
	}
	return rules, nil
}

func parseExporters(b []byte) ([]session.Rule, error) {
	var doc exportersFile
	if err := yamltext.Decode(b, &doc); err != nil {
		return nil, err
	}
	var out []session.Rule
	for i, e := range doc.Exporters {
		r, err := e.rule()
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// rule turns an entry into what the collector understands.
func (e *exporterEntry) rule() (session.Rule, error) {
	r := session.Rule{
		Domain: e.Domain, Sampling: e.Sampling, Assume: e.Assume, Scaled: e.Scaled, PortIDs: e.PortIDs, Interfaces: e.Interfaces,
		Switches: make(map[uint32]session.Switch, len(e.Switches)),
	}
	if len(e.Address) == 0 {
		return r, errors.New("address: expected the exporter's address or network")
	}
	for _, text := range e.Address {
		p, err := parsePrefix(text)
		if err != nil {
			return r, fmt.Errorf("address: %w", err)
		}
		r.Exporters = append(r.Exporters, netip.PrefixFrom(p.Addr(), p.Bits()).Masked())
	}
	for id, s := range e.Switches {
		r.Switches[id] = session.Switch{Name: s.Name, Ports: s.Ports}
	}
	return r, r.Validate()
}
