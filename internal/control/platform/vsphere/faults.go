package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

// explain turns a fault of the server into an error that says what to do. where names the object.
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

// transport classifies errors that are no faults.
func transport(err error) error {
	var op *net.OpError
	var u *url.Error
	if errors.As(err, &op) || errors.As(err, &u) || errors.Is(err, context.DeadlineExceeded) {
		return platform.ErrUnreachable
	}
	return nil
}

// about explains the first fault in an error that has an explanation.
func about(err error) (text string, base error) {
	fault.In(err, func(f types.BaseMethodFault, _ string, _ []types.LocalizableMessage) bool {
		text, base = aboutFault(f)
		return text != ""
	})
	return text, base
}

func aboutFault(f types.BaseMethodFault) (string, error) {
	switch f := f.(type) {
	case *types.NoPermission:
		return fmt.Sprintf("the account lacks the privilege %s on %s; add it to its role", f.PrivilegeId, refText(f.Object)), platform.ErrDenied
	case *types.NotAuthenticated:
		return "the server has ended the session", platform.ErrUnreachable
	case *types.RestrictedVersion:
		return "the licence of this ESXi host makes its API read-only; do the step by hand, or use a licensed host", platform.ErrDenied
	case *types.ManagedObjectNotFound:
		return f.Obj.Value, platform.ErrGone
	case *types.NotFound:
		return "the server no longer knows it", platform.ErrGone
	case *types.ConcurrentAccess:
		return "others keep changing it", platform.ErrChanged
	case *types.DvsNotAuthorized:
		return fmt.Sprintf("the switch is managed by %q, which alone may change it", f.SessionExtensionKey), platform.ErrDenied
	case *types.LimitExceeded:
		return limitText(f), nil
	case *types.ResourceInUse:
		return fmt.Sprintf("%s is in use: take what is attached to it away first", f.Name), nil
	case *types.DuplicateName:
		return fmt.Sprintf("the name %q is taken", f.Name), platform.ErrChanged
	case *types.AlreadyExists:
		return fmt.Sprintf("%q exists already", f.Name), platform.ErrChanged
	case *types.InvalidArgument:
		return fmt.Sprintf("the server takes no such value for %s", f.InvalidProperty), nil
	case *types.NotSupported:
		return "this version does not support it", nil
	case *types.TaskInProgress:
		return "another task is at work on it; try again", platform.ErrChanged
	case *types.DvsOperationBulkFault:
		return bulkText(f), nil
	}
	return aboutVspan(f), nil
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
		why := h.Fault.LocalizedMessage
		if h.Fault.Fault != nil {
			if t, _ := aboutFault(h.Fault.Fault); t != "" {
				why = t
			} else if why == "" {
				why = reflect.TypeOf(h.Fault.Fault).Elem().Name()
			}
		}
		out = append(out, h.Host.Value+" ("+why+")")
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
