package netnetflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/flow"
)

const (
	fdbPatience = 2 * time.Second
	maxFDB      = 64 << 20 // bytes of an answer
)

// ovsLocal is the number of a bridge's own port (OFPP_LOCAL of OpenFlow 1.0), which fdb/show calls LOCAL.
const ovsLocal = 65534

// learnedByOVS asks a switch's daemon for the addresses that a bridge has learned, by OpenFlow port: the command fdb/show, as
// ovs-appctl(8) gives it, over the daemon's control socket beside the database's (JSON-RPC 1.0).
func learnedByOVS(ctx context.Context, ovsdb, bridge string) (map[uint32][]flow.MAC, error) {
	path, ok := strings.CutPrefix(ovsdb, "unix:")
	if !ok {
		return nil, errors.New("the Open vSwitch database is not on this host")
	}
	sockets, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*vswitchd*.ctl")) // ovs-vswitchd.PID.ctl
	if err != nil || len(sockets) == 0 {
		return nil, fmt.Errorf("no control socket of ovs-vswitchd beside %s", path)
	}
	for _, s := range sockets { // some may be of daemons that are gone
		var table string
		if table, err = control(ctx, s, "fdb/show", bridge); err == nil {
			return parseFDB(table), nil
		}
	}
	return nil, err
}

// control gives a command to a daemon of Open vSwitch.
func control(ctx context.Context, socket, method string, params ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fdbPatience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	end, _ := ctx.Deadline()
	_ = c.SetDeadline(end)
	if err := json.NewEncoder(c).Encode(map[string]any{"id": 0, "method": method, "params": params}); err != nil {
		return "", err
	}
	var answer struct {
		Result string `json:"result"`
		Error  any    `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(c, maxFDB)).Decode(&answer); err != nil {
		return "", fmt.Errorf("%s: %s: %w", socket, method, err)
	}
	if answer.Error != nil {
		return "", fmt.Errorf("%s: %s: %v", socket, method, answer.Error)
	}
	return answer.Result, nil
}

// parseFDB reads the lines of fdb/show: port, VLAN, MAC address, age.
func parseFDB(table string) map[uint32][]flow.MAC {
	all := map[uint32][]flow.MAC{}
	for line := range strings.Lines(table) {
		col := strings.Fields(line)
		if len(col) < 4 {
			continue
		}
		mac, err := net.ParseMAC(col[2])
		no, err2 := strconv.ParseUint(col[0], 10, 16)
		if col[0] == "LOCAL" {
			no, err2 = ovsLocal, nil
		}
		if err == nil && err2 == nil && len(mac) == 6 {
			all[uint32(no)] = append(all[uint32(no)], flow.MACFrom(mac))
		}
	}
	return all
}
