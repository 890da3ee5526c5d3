package main

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	largestPacket = 65535
	smallestView  = 2048
)

// link is the link endpoint of one session: a packet is a message of its socket.
//
// What is not known to be right (no flag of the header says so) netstack verifies; it asks for the capability packet by
// packet, and only the poller of this link delivers, so the capability of the packet in hand is the answer.
type link struct {
	socket   int
	mtu      atomic.Uint32
	verified atomic.Bool
	dropped  atomic.Uint64

	mutex      sync.RWMutex // over what follows: the socket is closed for good only when nobody writes
	dispatcher stack.NetworkDispatcher
	closed     bool
}

func newLink(socket int, mtu uint32) *link {
	l := &link{socket: socket}
	l.mtu.Store(mtu)
	return l
}

func (l *link) MTU() uint32                             { return l.mtu.Load() }
func (l *link) MaxHeaderLength() uint16                 { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress          { return "" }
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) Wait()                                   {}
func (l *link) GSOMaxSize() uint32                      { return largestPacket - header.IPv6MinimumSize }
func (l *link) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }

func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	if l.verified.Load() {
		return stack.CapabilityRXChecksumOffload
	}
	return 0
}

func (l *link) Attach(dispatcher stack.NetworkDispatcher) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.dispatcher = dispatcher
}

func (l *link) IsAttached() bool {
	l.mutex.RLock()
	defer l.mutex.RUnlock()
	return l.dispatcher != nil
}

// close closes the socket; who writes afterwards is told so.
func (l *link) close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if !l.closed {
		l.closed = true
		unix.Close(l.socket)
	}
}

// outbound is what a packet is written with, kept for the next one.
type outbound struct {
	header  [vnetSize]byte
	parts   []unix.Iovec
	message unix.Msghdr
}

var outbounds = sync.Pool{New: func() any { return &outbound{parts: make([]unix.Iovec, 0, 32)} }}

func (o *outbound) add(octets []byte) {
	if len(octets) != 0 {
		part := unix.Iovec{Base: &octets[0]}
		part.SetLen(len(octets))
		o.parts = append(o.parts, part)
	}
}

// WritePackets writes each packet as a message. A full socket is a full device: the packet is lost.
func (l *link) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	l.mutex.RLock()
	defer l.mutex.RUnlock()
	if l.closed {
		return 0, &tcpip.ErrClosedForSend{}
	}
	o := outbounds.Get().(*outbound)
	defer outbounds.Put(o)
	for n, packet := range packets.AsSlice() {
		if !l.write(o, packet) {
			l.dropped.Add(1)
			return n, &tcpip.ErrNoBufferSpace{}
		}
	}
	return packets.Len(), nil
}

func (l *link) write(o *outbound, packet packetBuffer) bool {
	var head vnetHeader
	if options := packet.GSOOptions; options.Type != stack.GSONone {
		head.headers = uint16(packet.HeaderSize())
		if options.NeedsCsum {
			head.flags, head.checksumStart, head.checksumOffset = vnetNeedsChecksum, options.L3HdrLen, options.CsumOffset
		}
		if packet.Data().Size() > int(options.MSS) {
			head.segmentSize = options.MSS
			head.segment = vnetSegmentTCPv4
			if options.Type == stack.GSOTCPv6 {
				head.segment = vnetSegmentTCPv6
			}
		}
	}
	head.put(&o.header)
	o.parts = o.parts[:0]
	o.add(o.header[:])
	for _, octets := range packet.AsSlices() {
		o.add(octets)
	}
	o.message.Iov = &o.parts[0]
	o.message.SetIovlen(len(o.parts))
	for {
		_, _, err := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(l.socket), uintptr(unsafe.Pointer(&o.message)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err == 0
		}
	}
}

// protocols are named by a packet's first four bits.
var protocols = map[uint8]tcpip.NetworkProtocolNumber{4: ipv4.ProtocolNumber, 6: ipv6.ProtocolNumber}

// inbound is what a poller receives with: a view as large as the last packet was, and one that holds the rest of any.
//
// So most packets are received where netstack keeps them, and short ones in a queue don't hold 64 KB each.
type inbound struct {
	header     [vnetSize]byte
	parts      [3]unix.Iovec
	message    unix.Msghdr
	view, rest *view
}

func newInbound() *inbound {
	in := &inbound{view: newView(smallestView), rest: newView(largestPacket)}
	in.parts[0].Base = &in.header[0]
	in.parts[0].SetLen(vnetSize)
	in.message.Iov = &in.parts[0]
	in.message.SetIovlen(len(in.parts))
	return in
}

// point has the next packet received into the views.
func (in *inbound) point() {
	for n, v := range []*view{in.view, in.rest} {
		space := v.AsSlice()
		in.parts[n+1].Base = &space[0]
		in.parts[n+1].SetLen(len(space))
	}
}

// take makes a packet of what was received.
func (in *inbound) take(size int) packetBuffer {
	room := in.view.Size()
	if size <= room/2 && room > smallestView {
		packet := newPacketBuffer(newViewWithData(in.view.AsSlice()[:size]))
		if size > smallestView {
			in.view.Release()
			in.view = newView(viewFor(size))
		}
		return packet
	}
	in.view.CapLength(size)
	packet := newPacketBuffer(in.view)
	in.view = newView(viewFor(size))
	if more := size - room; more > largestPacket/2 {
		in.rest.CapLength(more)
		packet.Data().AppendView(in.rest)
		in.rest = newView(largestPacket)
	} else if more > 0 {
		packet.Data().AppendView(newViewWithData(in.rest.AsSlice()[:more]))
	}
	return packet
}

// viewFor is the size of a view for packets of a size: a power of two, as netstack keeps them.
func viewFor(size int) int {
	if size <= smallestView {
		return smallestView
	}
	return 1 << bits.Len(uint(size-1))
}

type received int

const (
	receivedPacket received = iota
	receivedNothing
	receivedEnd
)

// receive takes one message from the socket and hands its packet to netstack.
func (l *link) receive(in *inbound) received {
	in.point()
	l.mutex.RLock()
	dispatcher := l.dispatcher
	if l.closed {
		l.mutex.RUnlock()
		return receivedEnd
	}
	length, _, err := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(l.socket), uintptr(unsafe.Pointer(&in.message)), unix.MSG_DONTWAIT)
	l.mutex.RUnlock()
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return receivedNothing
	case err != 0 || length == 0:
		return receivedEnd
	case length <= vnetSize || in.message.Flags&unix.MSG_TRUNC != 0 || dispatcher == nil:
		return receivedPacket
	}
	protocol, known := protocols[in.view.AsSlice()[0]>>4]
	if !known {
		return receivedPacket
	}
	packet := in.take(int(length) - vnetSize)
	defer packet.DecRef()
	l.verified.Store(in.header[0]&(vnetNeedsChecksum|vnetDataValid) != 0)
	dispatcher.DeliverNetworkPacket(protocol, packet)
	return receivedPacket
}
