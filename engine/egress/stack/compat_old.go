//go:build !go1.21

package main

// What netstack is called in Debian 12.

import (
	"gvisor.dev/gvisor/pkg/bufferv2"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

type (
	packetBuffer = stack.PacketBufferPtr
	view         = bufferv2.View
)

func newView(size int) *view { return bufferv2.NewViewSize(size) }

func newPacketBuffer(v *view, released func()) packetBuffer {
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: bufferv2.MakeWithView(v), OnRelease: released})
}

func addressOf(octets []byte) tcpip.Address { return tcpip.Address(octets) }
func octetsOf(address tcpip.Address) []byte { return []byte(address) }
func (l *link) AddHeader(packetBuffer)      {}
