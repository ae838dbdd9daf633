// Package libvirt is a client of libvirt's daemons (libvirtd, virtqemud and their like): the remote protocol of
// libvirt, program 0x20008086 version 1, with its keep-alive, over a local socket or through ssh.
//
// It reads: domains, their description, their addresses and counters, and events. Nothing here changes a domain, and a
// read-only socket is enough.
package libvirt
