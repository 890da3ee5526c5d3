// The stack program: netstack's TCP, UDP and ICMP for the engine's sessions with `egress: stack`.
//
// The engine starts it with a SEQPACKET socket as descriptor 3, and it ends when that is closed. A session's packets come
// and go over a socket each; connections are asked for over sockets of their own. It needs no device and no privilege.
package main

import (
	"fmt"
	"os"
)

const controlSocket = 3

// Set by the linker.
var release, stackVersion = "0", "0"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Printf("souppp-stack %s, netstack %s\n", release, stackVersion)
		return
	}
	if err := serveControl(controlSocket); err != nil {
		fmt.Fprintf(os.Stderr, "souppp-stack: %s\n", err)
		os.Exit(1)
	}
}
