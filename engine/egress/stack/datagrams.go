package main

import (
	"bytes"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

var datagramSpace = sync.Pool{New: func() any { space := make([]byte, largestPacket+19); return &space }}

// datagrams copies between a UDP socket of netstack and a SEQPACKET socket, a message a datagram.
//
// Without a peer, each message begins with one: family (4 or 6), address, port in network order.
type datagrams struct {
	connection *connection
	file       *os.File
}

// newDatagrams returns the client's end.
func newDatagrams(c *connection) (*datagrams, int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	unix.SetNonblock(pair[1], false)
	return &datagrams{c, os.NewFile(uintptr(pair[0]), "datagrams")}, pair[1], nil
}

// run copies until the client closes its end, or the connection is cut.
func (d *datagrams) run() string {
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.hear()
		d.file.Close()
	}()
	d.say()
	d.connection.reset("closed")
	d.file.Close()
	<-done
	return d.connection.why
}

// say sends what the client says.
func (d *datagrams) say() {
	c := d.connection
	space := make([]byte, 2048)
	for {
		length, err := waitForLength(d.file)
		if err != nil {
			return
		}
		if length > len(space) {
			space = make([]byte, length)
		}
		n, err := d.file.Read(space)
		if err != nil || n == 0 {
			return
		}
		payload, options := space[:n], tcpip.WriteOptions{}
		if !c.remote.IsValid() {
			peer, size := peerOf(payload)
			if size == 0 || peer.Addr().Is4() != c.local.Addr().Is4() {
				continue
			}
			full := c.session.full(peer)
			options.To, payload = &full, payload[size:]
		}
		// What can't be sent now is lost, as datagrams are.
		if sent, failure := c.endpoint.Write(bytes.NewReader(payload), options); failure == nil {
			c.addOut(int(sent))
		}
	}
}

// hear gives the client what comes; a client that doesn't read loses it.
func (d *datagrams) hear() {
	c := d.connection
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	raw, err := d.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		if !d.hearOne(raw) {
			select {
			case <-ready:
			case <-c.cut:
				return
			}
		}
		select {
		case <-c.cut:
			return
		default:
		}
	}
}

func (d *datagrams) hearOne(raw syscall.RawConn) bool {
	c := d.connection
	space := datagramSpace.Get().(*[]byte)
	defer datagramSpace.Put(space)
	const head = 19
	into := &sliceWriter{(*space)[head:], 0}
	result, failure := c.endpoint.Read(into, tcpip.ReadOptions{NeedRemoteAddr: true})
	if failure != nil {
		_, nothing := failure.(*tcpip.ErrWouldBlock)
		// Any other is an ICMP error about an earlier datagram: told once, and over.
		return !nothing
	}
	message := (*space)[head : head+into.n]
	if !c.remote.IsValid() {
		peer := addrPort(result.RemoteAddr)
		size := 1 + peer.Addr().BitLen()/8 + 2
		message = (*space)[head-size : head+into.n]
		putPeer(message, peer)
	}
	// An empty message would be the end: an empty datagram of the only peer isn't told.
	raw.Control(func(socket uintptr) { send(int(socket), message) })
	c.addIn(into.n)
	return true
}

type sliceWriter struct {
	space []byte
	n     int
}

func (w *sliceWriter) Write(octets []byte) (int, error) {
	n := copy(w.space[w.n:], octets)
	w.n += n
	return n, nil
}

// peerOf reads the peer in front of a message and says how long it is; 0 if there is none.
func peerOf(message []byte) (netip.AddrPort, int) {
	if len(message) == 0 {
		return netip.AddrPort{}, 0
	}
	size := map[byte]int{4: 4, 6: 16}[message[0]]
	if size == 0 || len(message) < 1+size+2 {
		return netip.AddrPort{}, 0
	}
	address, _ := netip.AddrFromSlice(message[1 : 1+size])
	return netip.AddrPortFrom(address, uint16(message[1+size])<<8|uint16(message[2+size])), 1 + size + 2
}

func putPeer(message []byte, peer netip.AddrPort) {
	message[0] = 6
	if peer.Addr().Is4() {
		message[0] = 4
	}
	size := copy(message[1:], peer.Addr().AsSlice())
	message[1+size], message[2+size] = byte(peer.Port()>>8), byte(peer.Port())
}
