//go:build linux

package linux

import (
	"bytes"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
)

// modules names the module of the kernel behind each encapsulation.
var modules = []struct {
	module string
	encaps []platform.Encap
}{
	{"vxlan", []platform.Encap{platform.EncapVXLAN}},
	{"ip_gre", []platform.Encap{platform.EncapGRE, platform.EncapERSPAN2, platform.EncapERSPAN3}},
	{"geneve", []platform.Encap{platform.EncapGeneve}},
}

// encaps tells how copies can travel: by the modules that are loaded or built in, or that the kernel can load. Nothing is loaded to
// find out, for some modules make devices of their own.
func encaps() (out []platform.Encap) {
	var u unix.Utsname
	_ = unix.Uname(&u)
	dir := filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]))
	loadable, _ := os.ReadFile(filepath.Join(dir, "modules.dep"))
	builtin, _ := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	for _, m := range modules {
		_, err := os.Stat(filepath.Join("/sys/module", m.module))
		name := []byte("/" + m.module + ".ko")
		if err == nil || bytes.Contains(loadable, name) || bytes.Contains(builtin, name) {
			out = append(out, m.encaps...)
		}
	}
	return out
}
