// Command pack makes the packages of the agent from the built binary and the files of the folder packaging.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers the format
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // likewise
)

// job says what is packed.
type job struct {
	root    string // of the checkout
	binary  string
	man     string // folder of manual pages, "" for none
	version string
	arch    string // as Go names it
	format  string // deb or rpm
	out     string // folder
	mtime   time.Time
}

func main() {
	var j job
	flag.StringVar(&j.root, "root", ".", "checkout of crosstap")
	flag.StringVar(&j.binary, "binary", "bin/crosstap-agent", "the agent")
	flag.StringVar(&j.man, "man", "", "folder of its manual pages")
	flag.StringVar(&j.version, "version", "0.0.0", "version of the package")
	flag.StringVar(&j.arch, "arch", runtime.GOARCH, "processor, as Go names it")
	flag.StringVar(&j.format, "format", "deb", "deb or rpm")
	flag.StringVar(&j.out, "out", "bin", "folder for the package")
	flag.Parse()
	path, err := j.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

// run makes the package and returns its path.
func (j *job) run() (string, error) {
	packager, err := nfpm.Get(j.format)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(j.binary)
	if err != nil {
		return "", err
	}
	j.mtime = st.ModTime() // the same binary makes the same package
	info, err := j.info()
	if err != nil {
		return "", err
	}
	if err := nfpm.PrepareForPackager(info, j.format); err != nil {
		return "", err
	}
	path := filepath.Join(j.out, packager.ConventionalFileName(info))
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if err := packager.Package(info, f); err != nil {
		f.Close()
		return "", err
	}
	return path, f.Close()
}

func (j *job) info() (*nfpm.Info, error) {
	contents, err := j.contents()
	if err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(j.root, "packaging", name) }
	return nfpm.WithDefaults(&nfpm.Info{
		Name: "crosstap-agent", Arch: j.arch, Platform: "linux", Version: j.version, Section: "net", Priority: "optional",
		Maintainer: "crosstap maintainers <maintainers@crosstap.example>", MTime: j.mtime,
		Description: "taps of one host for a crosstap server\nCopies, filters and meters the traffic between virtual machines where it is,\ninside a budget, and without standing in the way of a packet.",
		Overridables: nfpm.Overridables{
			Contents: contents,
			Scripts:  nfpm.Scripts{PostInstall: in("postinst"), PreRemove: in("prerm"), PostRemove: in("postrm")},
			Deb:      nfpm.Deb{Compression: "zstd"},
		},
	}), nil
}

// contents lists the files of the package.
func (j *job) contents() (files.Contents, error) {
	file := func(source, destination, kind string, mode fs.FileMode) *files.Content {
		return &files.Content{Source: source, Destination: destination, Type: kind, FileInfo: &files.ContentFileInfo{Mode: mode, MTime: j.mtime}}
	}
	in := func(name string) string { return filepath.Join(j.root, "packaging", name) }
	all := files.Contents{
		file(j.binary, "/usr/bin/crosstap-agent", "", 0o755),
		file(in("crosstap-agent.service"), "/lib/systemd/system/crosstap-agent.service", "", 0o644),
		file(in("agent.env"), "/etc/crosstap/agent.env", files.TypeConfigNoReplace, 0o644),
		file(filepath.Join(j.root, "LICENSE"), "/usr/share/doc/crosstap-agent/copyright", "", 0o644),
	}
	if j.man == "" {
		return all, nil
	}
	pages, err := filepath.Glob(filepath.Join(j.man, "*.1"))
	for _, p := range pages {
		all = append(all, file(p, "/usr/share/man/man1/"+filepath.Base(p), "", 0o644))
	}
	return all, err
}
