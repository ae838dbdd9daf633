package vsphere

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

// explain turns a fault of the server into an error that says what to do, with the fault's name. where names the object.
func explain(where string, err error) error {
	if err == nil {
		return nil
	}
	if text, base := about(err); text != "" {
		if base == nil {
			return fmt.Errorf("%s: %s", where, text)
		}
		return fmt.Errorf("%s: %w: %s", where, base, text)
	}
	if base := transport(err); base != nil {
		return fmt.Errorf("%s: %w: %w", where, base, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// explain is explain with the names of hosts and switches that faults call by their ids.
func (v *VSphere) explain(where string, err error) error {
	err = explain(where, err)
	if err == nil {
		return nil
	}
	text := err.Error()
	v.mu.Lock()
	for _, id := range slices.Sorted(maps.Keys(v.names)) {
		text = withName(text, id, v.names[id])
	}
	v.mu.Unlock()
	if text == err.Error() {
		return err
	}
	return named{text, err}
}

// named is an error with another text.
type named struct {
	text string
	error
}

func (n named) Error() string { return n.text }
func (n named) Unwrap() error { return n.error }

// withName puts a name before an id wherever that stands alone in a text.
func withName(text, id, name string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, id)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if partOfWord(lastByte(before)) || after != "" && partOfWord(after[0]) || name == id {
			b.WriteString(id)
		} else {
			b.WriteString(name + " [" + id + "]")
		}
		text = after
	}
}

func lastByte(s string) byte {
	if s == "" {
		return ' '
	}
	return s[len(s)-1]
}

func partOfWord(c byte) bool {
	return c == '-' || c == '_' || c == '[' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// remember keeps the names of what faults call by ids.
func (v *VSphere) remember(s *platform.Snapshot) {
	names := make(map[string]string, len(s.Hosts)+len(s.Switches))
	for id, h := range s.Hosts {
		names[id] = h.Name
	}
	for id, sw := range s.Switches {
		names[id] = sw.Name
	}
	v.mu.Lock()
	v.names = names
	v.mu.Unlock()
}

// transport classifies errors that are no faults.
func transport(err error) error {
	var op *net.OpError
	var u *url.Error
	if errors.As(err, &op) || errors.As(err, &u) || errors.Is(err, context.DeadlineExceeded) {
		return platform.ErrUnreachable
	}
	return nil
}

// about explains the first fault in an error that has an explanation; of others it tells the name and what the server says.
func about(err error) (text string, base error) {
	unknown := ""
	fault.In(err, func(f types.BaseMethodFault, message string, _ []types.LocalizableMessage) bool {
		if text, base = aboutFault(f); text != "" {
			text += " (" + faultName(f) + ")"
			return true
		}
		if unknown == "" {
			unknown = strings.TrimSuffix("the server refuses with the fault "+faultName(f)+": "+message, ": ")
		}
		return false
	})
	if text == "" {
		text = unknown
	}
	return text, base
}

// faultName is the name that vSphere's documentation has for a fault.
func faultName(f types.BaseMethodFault) string {
	t := reflect.TypeOf(f)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

func aboutFault(f types.BaseMethodFault) (string, error) {
	switch f := f.(type) {
	case *types.NoPermission:
		return fmt.Sprintf("the account lacks the privilege %s on %s; add it to its role", f.PrivilegeId, refText(f.Object)), platform.ErrDenied
	case *types.NotAuthenticated:
		return "the server has ended the session; a new one is made with the next attempt: look for a time limit or a second login of this user when it lasts", platform.ErrUnreachable
	case *types.InvalidLogin:
		return "the server does not take this user and password; set them right in the Platform resource", platform.ErrDenied
	case *types.RestrictedVersion:
		return "the licence of this ESXi host makes its API read-only; do the step by hand, or use a licensed host", platform.ErrDenied
	case *types.HostNotConnected, *types.HostNotReachable, *types.HostCommunication:
		return "the vCenter has no connection to the host; reconnect it, or see to its management network, then apply again", platform.ErrUnreachable
	case *types.InvalidHostState:
		return "host " + refText(f.Host) + " is in no state for it, such as maintenance mode; bring it back, then apply again", nil
	case *types.InvalidPowerState:
		return fmt.Sprintf("the machine is %s; it must be %s", f.ExistingState, orElse(string(f.RequestedState), "in another state")), nil
	case *types.SSLVerifyFault:
		return fmt.Sprintf("the vCenter does not trust the host's certificate (thumbprint %s); accept it there by connecting the host again", orElse(f.Thumbprint, "not told")), platform.ErrUnreachable
	case *types.ManagedObjectNotFound:
		return f.Obj.Value, platform.ErrGone
	case *types.NotFound:
		return "the server no longer knows it", platform.ErrGone
	case *types.ConcurrentAccess:
		return "others keep changing it; apply again when they are done", platform.ErrChanged
	case *types.Timedout:
		return "the server did not end it in time; see its recent tasks, then apply again", platform.ErrUnreachable
	case *types.DvsNotAuthorized:
		return fmt.Sprintf("the switch is managed by %q, which alone may change it", f.SessionExtensionKey), platform.ErrDenied
	case *types.DvsScopeViolated:
		return fmt.Sprintf("%s is outside of what the switch's policy is for", refText(&f.Entity)), nil
	case *types.LimitExceeded:
		return limitText(f), nil
	case *types.ResourceInUse:
		return fmt.Sprintf("%s is in use: take what is attached to it away first", orElse(strings.TrimSpace(f.Type+" "+f.Name), "it")), nil
	case *types.ResourceNotAvailable:
		return fmt.Sprintf("%s has no %s left", orElse(strings.TrimSpace(f.ContainerType+" "+f.ContainerName), "the server"), orElse(f.Type, "resource")), nil
	case *types.InsufficientResourcesFault:
		return "the host has not enough resources for it; free some, or name another host", nil
	case *types.DuplicateName:
		return fmt.Sprintf("the name %q is taken", f.Name), platform.ErrChanged
	case *types.AlreadyExists:
		return fmt.Sprintf("%q exists already", f.Name), platform.ErrChanged
	case *types.InvalidArgument:
		return fmt.Sprintf("the server takes no such value for %s", orElse(f.InvalidProperty, "one of the fields")), nil
	case *types.NotSupported:
		return "this version does not support it", nil
	case *types.TaskInProgress:
		return "another task is at work on it; try again", platform.ErrChanged
	case *types.SystemError:
		return "the server failed: " + f.Reason + "; see its log (vpxd, hostd), then apply again", nil
	case *types.DvsApplyOperationFault:
		return objectsText(f), nil
	case *types.DvsOperationBulkFault:
		return bulkText(f), nil
	}
	return aboutVspan(f), nil
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// within is what a fault inside of another one says, with its name.
func within(f types.LocalizedMethodFault) string {
	if f.Fault == nil {
		return f.LocalizedMessage
	}
	if text, _ := aboutFault(f.Fault); text != "" {
		return text + "; " + faultName(f.Fault)
	}
	return strings.TrimPrefix(f.LocalizedMessage+"; "+faultName(f.Fault), "; ")
}

// objectsText names the ports or hosts that a switch did not change.
func objectsText(f *types.DvsApplyOperationFault) string {
	var out []string
	for _, o := range f.ObjectFault {
		out = append(out, fmt.Sprintf("%s %s (%s)", o.Type, o.ObjectId, within(o.Fault)))
	}
	return "the switch did not take it for " + strings.Join(out, ", ")
}

func limitText(f *types.LimitExceeded) string {
	if f.Limit != nil {
		return fmt.Sprintf("the limit of %s is %d; remove sessions that nobody needs", f.Property, *f.Limit)
	}
	return "the limit of " + f.Property + " is reached"
}

// bulkText names the hosts that did not take a change which the vCenter keeps.
func bulkText(f *types.DvsOperationBulkFault) string {
	var out []string
	for _, h := range f.HostFault {
		out = append(out, h.Host.Value+" ("+within(h.Fault)+")")
	}
	return "these hosts did not take it, though the vCenter keeps it: " + strings.Join(out, ", ") + "; look at their connection, then apply again"
}

// aboutVspan explains the conflicts of mirror sessions.
func aboutVspan(f types.BaseMethodFault) string {
	switch f := f.(type) {
	case *types.VspanPromiscuousPortNotSupported:
		return fmt.Sprintf("port %s is in a promiscuous port group, whose ports can be no destination, and no source of what they are given: set promiscuous mode to reject, or copy ingress only", f.PortKey)
	case *types.VspanSameSessionPortConflict:
		return fmt.Sprintf("port %s is a source and a destination of one session", f.PortKey)
	case *types.VspanDestPortConflict:
		return fmt.Sprintf("port %s is the destination of another session already (%s)", f.PortKey, f.VspanSessionKey1)
	case *types.VspanPortConflict:
		return fmt.Sprintf("port %s is the source of one session (%s) and the destination of another (%s)", f.PortKey, f.VspanSessionKey1, f.VspanSessionKey2)
	case *types.VspanPortPromiscChangeFault:
		return fmt.Sprintf("port %s takes part in a mirror session and cannot become promiscuous", f.PortKey)
	case *types.VspanPortgroupPromiscChangeFault:
		return fmt.Sprintf("ports of group %q take part in mirror sessions, so it cannot become promiscuous", f.PortgroupName)
	case *types.VspanPortMoveFault:
		return fmt.Sprintf("port %s takes part in a mirror session and cannot move to group %q", f.PortKey, f.DestPortgroupName)
	case *types.VspanPortgroupTypeChangeFault:
		return fmt.Sprintf("ports of group %q take part in mirror sessions, so it cannot become ephemeral", f.PortgroupName)
	}
	return ""
}

func refText(r *types.ManagedObjectReference) string {
	if r == nil {
		return "the object"
	}
	return r.Value
}
