package identity

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"crosstap/internal/flow"
	"crosstap/internal/nearest"
	"crosstap/internal/yamltext"
)

// The header of an inventory file.
const (
	FileVersion = "crosstap/v1"
	FileKind    = "Inventory"
)

// maxFileBytes bounds an inventory file: some 500,000 virtual machines.
const maxFileBytes = 256 << 20

// FileError is a mistake in an inventory file. Line and Column count from 1; zero means the file
// as a whole.
type FileError struct {
	Path         string
	Line, Column int
	Message      string
	Suggestion   string
	Err          error
}

// Error gives "inventory: PATH:LINE:COLUMN: message; suggestion".
func (e *FileError) Error() string {
	var b strings.Builder
	b.WriteString("inventory: " + e.Path)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": " + e.Message)
	if e.Suggestion != "" {
		b.WriteString("; " + e.Suggestion)
	}
	return b.String()
}

// Unwrap returns the cause, such as the error of opening the file.
func (e *FileError) Unwrap() error { return e.Err }

// The file as it is written. Everything that has a form of its own is text here and is read by
// convert, which knows where it stood.
type (
	fileDoc struct {
		APIVersion string         `yaml:"apiVersion"`
		Kind       string         `yaml:"kind"`
		Hosts      []fileHost     `yaml:"hosts"`
		Tenants    []fileTenant   `yaml:"tenants"`
		VMs        []fileVM       `yaml:"vms"`
		Observers  []fileObserver `yaml:"observers"`
	}
	fileSpan struct {
		From string `yaml:"from"`
		To   string `yaml:"to"`
	}
	fileHost struct {
		Span  fileSpan `yaml:",inline"`
		Name  string   `yaml:"name"`
		VTEPs []string `yaml:"vteps"`
	}
	fileTenant struct {
		Span     fileSpan `yaml:",inline"`
		Name     string   `yaml:"name"`
		Segments []string `yaml:"segments"`
		Fabric   string   `yaml:"fabric"`
	}
	fileVM struct {
		Span   fileSpan  `yaml:",inline"`
		Name   string    `yaml:"name"`
		ID     string    `yaml:"id"`
		Tenant string    `yaml:"tenant"`
		NICs   []fileNIC `yaml:"nics"`
	}
	fileNIC struct {
		Span    fileSpan `yaml:",inline"`
		MAC     string   `yaml:"mac"`
		Addrs   []string `yaml:"addrs"`
		Host    string   `yaml:"host"`
		Port    string   `yaml:"port"`
		Segment string   `yaml:"segment"`
		Fabric  string   `yaml:"fabric"`
	}
	fileObserver struct {
		Span     fileSpan `yaml:",inline"`
		Name     string   `yaml:"name"`
		Role     string   `yaml:"role"`
		Host     string   `yaml:"host"`
		Exporter string   `yaml:"exporter"`
		Domain   uint32   `yaml:"domain"`
		Point    uint64   `yaml:"point"`
		Segment  string   `yaml:"segment"`
		Fabric   string   `yaml:"fabric"`
	}
)

// Load reads an inventory file (YAML, strict: an unknown key is a mistake). Its errors are of type
// *FileError.
func Load(path string) (Inventory, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFileBytes {
		return Inventory{}, &FileError{Path: path, Message: fmt.Sprintf("%d bytes, the limit is %d", info.Size(), maxFileBytes), Suggestion: "split it"}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Inventory{}, &FileError{Path: path, Message: errors.Unwrap(err).Error(), Suggestion: "write one, or leave out --inventory", Err: err}
	}
	return Parse(path, text)
}

// Parse reads the text of an inventory file; name stands for it in errors.
func Parse(name string, text []byte) (Inventory, error) {
	c := converter{name: name, text: text}
	if len(bytes.TrimSpace(text)) == 0 {
		return Inventory{}, &FileError{Path: name, Message: "the file is empty", Suggestion: `begin with "apiVersion: ` + FileVersion + `"`}
	}
	var doc fileDoc
	if err := yamltext.Decode(text, &doc); err != nil {
		return Inventory{}, c.syntax(err)
	}
	inv := c.convert(&doc)
	if c.err != nil {
		return Inventory{}, c.err
	}
	if err := c.conflicts(&inv); err != nil {
		return Inventory{}, err
	}
	return inv, nil
}

// converter turns the text of a file into an Inventory and remembers the first mistake.
type converter struct {
	name string
	text []byte
	root ast.Node // parsed again, only to find the line of a mistake
	err  error
}

// syntax translates an error of the YAML decoder.
func (c *converter) syntax(err error) error {
	e := &FileError{Path: c.name, Message: err.Error(), Err: err}
	var y *yamltext.Error
	if errors.As(err, &y) {
		e.Message, e.Line, e.Column = y.Message, y.Line, y.Column
		if y.Near != "" {
			e.Suggestion = fmt.Sprintf("did you mean %q?", y.Near)
		}
	}
	return e
}

// fail remembers a mistake at a place such as "$.vms[2].nics[0].mac".
func (c *converter) fail(path, suggestion, format string, args ...any) {
	if c.err != nil {
		return
	}
	e := &FileError{Path: c.name, Message: strings.TrimPrefix(path, "$.") + ": " + fmt.Sprintf(format, args...), Suggestion: suggestion}
	e.Line, e.Column = c.position(path)
	c.err = e
}

// position finds the line and column of a place, 0, 0 when nobody can say.
func (c *converter) position(path string) (line, column int) {
	if c.root == nil {
		f, err := yamltext.Parse(c.text)
		if err != nil {
			return 0, 0
		}
		if c.root, err = yamltext.Root(f); c.root == nil || err != nil {
			return 0, 0
		}
	}
	return yamltext.Position(c.root, path)
}

func (c *converter) convert(doc *fileDoc) Inventory {
	if doc.APIVersion != FileVersion {
		c.fail("$.apiVersion", `write "apiVersion: `+FileVersion+`"`, "is %q", doc.APIVersion)
	}
	if doc.Kind != FileKind {
		c.fail("$.kind", `write "kind: `+FileKind+`"`, "is %q", doc.Kind)
	}
	inv := Inventory{VNICs: make([]VNIC, 0, len(doc.VMs))}
	for i := range doc.Hosts {
		inv.Hosts = append(inv.Hosts, c.host(at("$.hosts", i), &doc.Hosts[i]))
	}
	for i := range doc.Tenants {
		inv.Tenants = append(inv.Tenants, c.tenant(at("$.tenants", i), &doc.Tenants[i]))
	}
	for i := range doc.VMs {
		vm, place := &doc.VMs[i], at("$.vms", i)
		c.need(place+".name", vm.Name)
		span := c.span(place, vm.Span)
		for j := range vm.NICs {
			inv.VNICs = append(inv.VNICs, c.vnic(at(place+".nics", j), vm, &vm.NICs[j], span))
		}
	}
	for i := range doc.Observers {
		inv.Observers = append(inv.Observers, c.observer(at("$.observers", i), &doc.Observers[i]))
	}
	return inv
}

func (c *converter) host(place string, h *fileHost) Host {
	c.need(place+".name", h.Name)
	return Host{Span: c.span(place, h.Span), Name: h.Name, VTEPs: c.addrs(place+".vteps", h.VTEPs)}
}

func (c *converter) tenant(place string, t *fileTenant) Tenant {
	c.need(place+".name", t.Name)
	out := Tenant{Span: c.span(place, t.Span), Name: t.Name, Fabric: t.Fabric}
	for i, s := range t.Segments {
		out.Segments = append(out.Segments, c.segment(at(place+".segments", i), s))
	}
	return out
}

func (c *converter) vnic(place string, vm *fileVM, n *fileNIC, span Span) VNIC {
	v := VNIC{
		Span: span, VM: vm.Name, VMID: vm.ID, Tenant: vm.Tenant, Host: n.Host, Port: n.Port, Fabric: n.Fabric,
		MAC: c.mac(place+".mac", n.MAC), Addrs: c.addrs(place+".addrs", n.Addrs),
	}
	if n.Span != (fileSpan{}) {
		v.Span = within(span, c.span(place, n.Span))
	}
	if n.Segment != "" {
		v.Segment = c.segment(place+".segment", n.Segment)
	}
	if v.MAC == 0 && len(v.Addrs) == 0 {
		c.fail(place, "give at least one of them", "has neither mac nor addrs")
	}
	return v
}

func (c *converter) observer(place string, o *fileObserver) Observer {
	c.need(place+".name", o.Name)
	out := Observer{
		Span: c.span(place, o.Span), Name: o.Name, Role: flow.ParseRole(o.Role), Host: o.Host,
		Domain: o.Domain, Point: o.Point, Fabric: o.Fabric,
	}
	if o.Role != "" && out.Role == flow.RoleUnknown && o.Role != flow.RoleUnknown.String() {
		c.fail(place+".role", nearest.Hint(o.Role, roleNames(), "one of: "+strings.Join(roleNames(), ", ")), "%q is no role", o.Role)
	}
	if o.Exporter != "" {
		out.Exporter = c.addr(place+".exporter", o.Exporter)
	}
	if o.Segment != "" {
		out.Segment = c.segment(place+".segment", o.Segment)
	}
	return out
}

// at is the path of one item of a list.
func at(place string, i int) string { return place + "[" + strconv.Itoa(i) + "]" }

// within is the span in which both hold.
func within(outer, inner Span) Span {
	s := Span{FromNS: max(outer.FromNS, inner.FromNS), ToNS: inner.ToNS}
	if s.ToNS == 0 || outer.ToNS != 0 && outer.ToNS < s.ToNS {
		s.ToNS = outer.ToNS
	}
	return s
}

func (c *converter) need(place, value string) {
	if value == "" {
		c.fail(place, "give it one", "is missing")
	}
}

func (c *converter) span(place string, s fileSpan) Span {
	out := Span{FromNS: c.time(place+".from", s.From), ToNS: c.time(place+".to", s.To)}
	if out.ToNS != 0 && out.ToNS <= out.FromNS {
		c.fail(place+".to", "", "%s is not after from (%s)", s.To, s.From)
	}
	return out
}

func (c *converter) time(place, text string) int64 {
	if text == "" {
		return 0
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		c.fail(place, "write it as 2026-01-31T12:00:00Z", "%q is no RFC 3339 time", text)
		return 0
	}
	return t.UnixNano()
}

func (c *converter) mac(place, text string) flow.MAC {
	if text == "" {
		return 0
	}
	hw, err := net.ParseMAC(text)
	if err != nil || len(hw) != 6 {
		c.fail(place, "write six bytes as 02:00:00:00:00:01", "%q is no MAC address", text)
		return 0
	}
	m := flow.MACFrom(hw)
	if m.Group() {
		c.fail(place, "the lowest bit of the first byte must be 0", "%s is a group address", text)
	}
	return m
}

func (c *converter) addrs(place string, texts []string) []flow.Addr {
	if len(texts) == 0 {
		return nil
	}
	out := make([]flow.Addr, len(texts))
	for i, t := range texts {
		out[i] = c.addr(at(place, i), t)
	}
	return out
}

func (c *converter) addr(place, text string) flow.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.IsUnspecified() {
		hint := "write it as 10.0.0.1 or fd00::1"
		if p, err := netip.ParsePrefix(text); err == nil {
			hint = "write " + p.Addr().String() + " without the prefix length"
		}
		c.fail(place, hint, "%q is no address", text)
		return flow.Addr{}
	}
	return flow.FromNetip(a)
}

func (c *converter) segment(place, text string) flow.Segment {
	s, err := parseSegment(text)
	if err != nil {
		c.fail(place, "write it as vxlan:5001 (kinds: "+strings.Join(segmentKinds(), ", ")+")", "%v", err)
	}
	return s
}
