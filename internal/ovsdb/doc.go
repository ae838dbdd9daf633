// Package ovsdb is a client of Open vSwitch databases: RFC 7047 (JSON-RPC over a unix socket, TCP or TLS), with the monitors that
// ovsdb-server(7) adds to it: monitor_cond and monitor_cond_since.
//
// A Conn is one session for a few calls. A Client keeps a copy of the tables it is told to follow, and a session that is made
// again whenever it breaks.
package ovsdb
