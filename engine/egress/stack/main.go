// The stack program: netstack's TCP, UDP and ICMP for the engine's sessions with `egress: stack`.
//
// The engine starts it with a SEQPACKET socket as descriptor 3, and it ends when that is closed. A session's packets come
// and go over a socket each; connections are asked for over sockets of their own. It needs no device and no privilege.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

const controlSocket = 3

// Set by the linker.
var release, stackVersion = "0", "0"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Printf("souppp-stack %s, netstack %s\n", release, stackVersion)
		return
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// The other half of the machine is for those that carry the packets: on two cores, a second thread costs more than it does.
		runtime.GOMAXPROCS((runtime.NumCPU() + 1) / 2)
	}
	// What the collector leaves lying is half of what is used, not as much again: most of it is buffers, which netstack keeps by itself.
	debug.SetGCPercent(50)
	if err := serveControl(controlSocket); err != nil {
		fmt.Fprintf(os.Stderr, "souppp-stack: %s\n", err)
		os.Exit(1)
	}
}
