// Package linux is the platform of one Linux kernel: its bridges and what is plugged into them, the machines behind the ports, and
// taps made of tc filters (a clsact qdisc, a cls_bpf filter with the packet filter as classic BPF, mirred as its action) and tunnel
// devices.
//
// What a tap needs is kept in the kernel and nowhere else, so that it outlives its controller and can be found again:
//
//   - a carrier for each session: a bridge device that is down, named crosstap-…, whose alias is the session's mark;
//   - a tunnel device for each address that copies go to, named crosstap-…, shared by the sessions of one owner;
//   - a filter for each port and direction, at preference 5 with the session's own handle, whose action carries a cookie that
//     names owner and session.
//
// Filters without the cookie are foreign and are never touched. Ours end with "continue", so that foreign filters behind them
// see every packet as before.
//
// Reading and changing go over rtnetlink, not over the tc and ip programs: several messages in one system call leave no half-done
// step behind when the process is killed, the kernel's own reason comes with an error, and a static agent needs no programs.
// The commands of a step are nevertheless complete: typed in, they have the same effect.
package linux
