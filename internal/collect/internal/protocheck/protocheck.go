// Package protocheck reads messages by a .proto file that protoc has read, for the tests of what is sent in Protocol Buffers.
package protocheck

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"crosstap/internal/testkit"
)

// File is a .proto file.
type File struct{ d protoreflect.FileDescriptor }

// Flow returns docs/formats/flow.proto.
func Flow(t testing.TB) File {
	t.Helper()
	return Load(t, filepath.Join(testkit.ModuleDir(t), "docs", "formats", "flow.proto"))
}

// Goflow2 returns the file of goflow2's own module, as the module of the benchmark's peer has it.
func Goflow2(t testing.TB) File {
	t.Helper()
	dir := filepath.Join(testkit.ModuleDir(t), "test", "bench", "goflow2")
	run := func(args ...string) string {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			testkit.Missing(t, "goflow2's module cannot be had: "+err.Error())
		}
		return strings.TrimSpace(string(out))
	}
	const module = "github.com/netsampler/goflow2/v2"
	if run("list", "-m", "-f", "{{.Dir}}", module) == "" {
		run("mod", "download", module)
	}
	return Load(t, filepath.Join(run("list", "-m", "-f", "{{.Dir}}", module), "pb", "flow.proto"))
}

// Load has protoc read a file.
func Load(t testing.TB, path string) File {
	t.Helper()
	out := filepath.Join(t.TempDir(), "set")
	cmd := exec.Command(testkit.Tool(t, "protoc"), "-I", filepath.Dir(path), "--descriptor_set_out", out, filepath.Base(path))
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v: %s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(b, &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	d, err := files.FindFileByPath(filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	return File{d}
}

// Read returns a message of that name as JSON shows it, with the names of the file. A field that the file does not know is a mistake.
func (f File) Read(t testing.TB, name string, b []byte) map[string]any {
	t.Helper()
	m := dynamicpb.NewMessage(f.d.Messages().ByName(protoreflect.Name(name)))
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatalf("%s: %v: % x", name, err, b)
	}
	if u := m.GetUnknown(); len(u) > 0 {
		t.Errorf("%s: unknown fields % x", name, u)
	}
	doc, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(doc, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
