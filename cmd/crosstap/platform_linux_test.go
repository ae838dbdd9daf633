//go:build !agent

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPlatformAlone takes the near end away while the far one has something to say: it ends in order, so that what it has to tidy up is tidied up.
func TestPlatformAlone(t *testing.T) {
	program := filepath.Join(t.TempDir(), "crosstap")
	copyProgram(t, program)
	c := exec.Command(program, "platform")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout = w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil { // its greeting
		t.Error(err)
	}
	r.Close()
	fmt.Fprintln(in, `{"id":1,"method":"read"}`) // it answers that nothing is open
	in.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}
