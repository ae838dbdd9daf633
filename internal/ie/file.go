package ie

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"crosstap/internal/yamltext"
)

// maxFile bounds a file of definitions, in bytes.
const maxFile = 16 << 20

// Load reads the definitions of files, in YAML (.yaml, .yml) or CSV (.csv), and checks them together as Define does. Nothing is
// made known.
func Load(paths ...string) ([]Definition, error) {
	var all []Definition
	for _, path := range paths {
		part, err := load(path)
		if err == nil {
			_, err = compile(part)
		}
		if err != nil {
			return nil, fmt.Errorf("elements: %s: %w", path, err)
		}
		all = append(all, part...)
	}
	if _, err := compile(all); err != nil {
		return nil, fmt.Errorf("elements: %s: %w", strings.Join(paths, ", "), err)
	}
	return all, nil
}

func load(path string) ([]Definition, error) {
	ext := strings.ToLower(filepath.Ext(path))
	if ext != ".csv" && ext != ".yaml" && ext != ".yml" {
		return nil, fmt.Errorf("the name ends in %q, want .yaml or .csv", ext)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	if ext == ".csv" {
		return ParseCSV(bytes.NewReader(b))
	}
	return ParseYAML(b)
}

// ParseYAML reads definitions from a YAML list of entries with the keys pen, id, name, type and unit; the last two may be missing.
func ParseYAML(b []byte) ([]Definition, error) {
	var all []Definition
	if err := yamltext.Decode(b, &all); err != nil {
		return nil, fmt.Errorf("ie: definitions: %w", err)
	}
	return all, nil
}
