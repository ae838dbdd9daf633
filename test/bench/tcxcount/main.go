//go:build linux

// Command tcxcount prints how many programs are at the TCX hooks of an interface.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"crosstap/internal/netns"
)

func main() {
	log.SetFlags(0)
	iface := flag.String("i", "eth0", "interface")
	space := flag.String("netns", "", "file of its network namespace")
	flag.Parse()
	err := netns.Do(*space, func() error {
		i, err := net.InterfaceByName(*iface)
		if err != nil {
			return err
		}
		n := 0
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			r, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: at})
			if err != nil {
				return err
			}
			n += len(r.Programs)
		}
		fmt.Println(n)
		return nil
	})
	if err != nil {
		log.Fatal("tcxcount: ", err)
	}
}
