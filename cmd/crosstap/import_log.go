//go:build !agent

package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// importsName is the file in a store directory that says what was imported: JSON lines, one when a file is begun and one when
// its records are stored.
const importsName = "IMPORTED"

// imported is a line of it.
type imported struct {
	Sum     string    `json:"sha256"`
	File    string    `json:"file"`
	When    time.Time `json:"when"`
	Records uint64    `json:"records"` // of all files that were imported together
	Files   int       `json:"files,omitempty"`
	Done    bool      `json:"done"`
}

// refusal says why the file is not imported again.
func (i *imported) refusal() error {
	if !i.Done {
		return fmt.Errorf("its import was begun at %s as %s and not finished; --again stores all its records, those that are there already a second time",
			i.When.Format(time.RFC3339), i.File)
	}
	with := ""
	if i.Files > 1 {
		with = fmt.Sprintf(" with %d others", i.Files-1)
	}
	return fmt.Errorf("it was imported at %s as %s%s (%s); --again stores its records a second time", i.When.Format(time.RFC3339), i.File, with, plural(int(i.Records), "record"))
}

// imports is the file and what it says.
type imports struct {
	path string
	last map[string]imported // by sum
}

// openImports reads the file in dir; without a directory nothing is remembered.
func openImports(dir string) (*imports, error) {
	if dir == "" {
		return &imports{last: map[string]imported{}}, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	l := &imports{path: filepath.Join(dir, importsName), last: map[string]imported{}}
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		var i imported
		if json.Unmarshal(in.Bytes(), &i) == nil {
			l.last[i.Sum] = i
		}
	}
	return l, in.Err()
}

func (l *imports) find(sum string) *imported {
	if i, ok := l.last[sum]; ok {
		return &i
	}
	return nil
}

// add makes a line durable.
func (l *imports) add(i imported) error {
	if l.path == "" {
		return nil
	}
	line, err := json.Marshal(i)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	if err == nil {
		err = f.Sync()
	}
	l.last[i.Sum] = i
	return errors.Join(err, f.Close())
}

// fileSum reads a file for its SHA-256 and its size.
func fileSum(name string) (sum string, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}
