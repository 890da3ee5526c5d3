package main

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const largestPacket = 65535

// link is the link endpoint of one session.
//
// What is not known to be right (no flag of the header says so) netstack verifies; it asks for the capability packet by
// packet, and one packet of a link is delivered at a time, so the capability of the packet in hand is the answer.
type link struct {
	slot     uint32
	duct     func(slot uint32) *duct
	mtu      atomic.Uint32
	verified atomic.Bool
	dropped  atomic.Uint64

	delivering sync.Mutex
	mutex      sync.RWMutex // over what follows
	dispatcher stack.NetworkDispatcher
	closed     bool
}

func newLink(slot uint32, mtu uint32, of func(slot uint32) *duct) *link {
	l := &link{slot: slot, duct: of}
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

// close has who writes afterwards told so.
func (l *link) close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.closed = true
}

// outbound is what a packet is written with, kept for the next one.
type outbound struct {
	header [vnetSize]byte
	parts  [][]byte
}

var outbounds = sync.Pool{New: func() any { return &outbound{parts: make([][]byte, 0, 32)} }}

// WritePackets puts each packet into a duct. One that stays full is a full device: the packet is lost.
func (l *link) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	l.mutex.RLock()
	defer l.mutex.RUnlock()
	d := l.duct(l.slot)
	if l.closed || d == nil {
		return 0, &tcpip.ErrClosedForSend{}
	}
	o := outbounds.Get().(*outbound)
	defer outbounds.Put(o)
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.closed {
		return 0, &tcpip.ErrClosedForSend{}
	}
	defer d.tell()
	for n, packet := range packets.AsSlice() {
		if !l.write(d, o, packet) {
			l.dropped.Add(1)
			return n, &tcpip.ErrNoBufferSpace{}
		}
	}
	return packets.Len(), nil
}

func (l *link) write(d *duct, o *outbound, packet packetBuffer) bool {
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
	o.parts = append(append(o.parts[:0], o.header[:]), packet.AsSlices()...)
	length := 0
	for _, part := range o.parts {
		length += len(part)
	}
	return d.putInTime(l.slot, length, o.parts...)
}

// protocols are named by a packet's first four bits.
var protocols = map[uint8]tcpip.NetworkProtocolNumber{4: ipv4.ProtocolNumber, 6: ipv6.ProtocolNumber}

// deliver hands netstack a copy of a packet that has its vnet header in front, and may be in parts.
func (l *link) deliver(octets []byte, more ...[]byte) {
	if len(octets) <= vnetSize || len(octets) > vnetSize+largestPacket {
		return
	}
	flags := octets[0]
	protocol, known := protocols[octets[vnetSize]>>4]
	if !known {
		return
	}
	l.mutex.RLock()
	dispatcher := l.dispatcher
	l.mutex.RUnlock()
	if dispatcher == nil {
		return
	}
	packet := packetOf(octets[vnetSize:], more...)
	defer packet.DecRef()
	l.delivering.Lock()
	defer l.delivering.Unlock()
	l.verified.Store(flags&(vnetNeedsChecksum|vnetDataValid) != 0)
	dispatcher.DeliverNetworkPacket(protocol, packet)
}
