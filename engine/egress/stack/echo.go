package main

import (
	"bytes"
	"context"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const largestEcho = 65000

// ping sends an Echo Request with size octets and returns how long the Echo Reply took.
func (s *session) ping(ctx context.Context, to netip.Addr, size int) (time.Duration, error) {
	source, ok := s.source(to)
	if !ok {
		return 0, noAddress
	}
	if size < 0 || size > largestEcho {
		size = 56
	}
	var transport tcpip.TransportProtocolNumber = icmp.ProtocolNumber6
	request := make([]byte, header.ICMPv6MinimumSize+size)
	request[0] = byte(header.ICMPv6EchoRequest)
	if to.Is4() {
		transport, request[0] = icmp.ProtocolNumber4, byte(header.ICMPv4Echo)
	}
	// Netstack fills in the identifier, which is the endpoint's port, and gives back answers to it alone.
	endpoint, queue, err := s.endpoint(transport, netip.AddrPortFrom(source, 0))
	if err != nil {
		return 0, err
	}
	defer endpoint.Close()
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	if failure := endpoint.Connect(s.full(netip.AddrPortFrom(to, 0))); failure != nil {
		return 0, refusalOf(failure)
	}
	begun := time.Now()
	if _, failure := endpoint.Write(bytes.NewReader(request), tcpip.WriteOptions{}); failure != nil {
		return 0, refusalOf(failure)
	}
	select {
	case <-ready:
	case <-ctx.Done():
		return 0, timedOut
	}
	took := time.Since(begun)
	if failure := endpoint.LastError(); failure != nil {
		return 0, refusalOf(failure)
	}
	return took, nil
}

// source is the session's address that a packet to a host has: a global one, for a link-local host the link-local one.
func (s *session) source(to netip.Addr) (netip.Addr, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var found netip.Addr
	for address := range s.addresses {
		if address.Is4() != to.Is4() || address.IsLinkLocalUnicast() != to.IsLinkLocalUnicast() && !to.Is4() {
			continue
		}
		if !found.IsValid() || address.Less(found) {
			found = address
		}
	}
	return found, found.IsValid() && !s.gone
}
