//go:build go1.21

package main

// What netstack is called in Debian 13.

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

type (
	packetBuffer = *stack.PacketBuffer
	view         = buffer.View
)

func newView(size int) *view { return buffer.NewViewSize(size) }

func newPacketBuffer(v *view, released func()) packetBuffer {
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v), OnRelease: released})
}

func addressOf(octets []byte) tcpip.Address { return tcpip.AddrFromSlice(octets) }
func octetsOf(address tcpip.Address) []byte { return address.AsSlice() }

func (l *link) AddHeader(packetBuffer)           {}
func (l *link) ParseHeader(packetBuffer) bool    { return true }
func (l *link) SetMTU(mtu uint32)                { l.mtu.Store(mtu) }
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}
func (l *link) Close()                           {}
func (l *link) SetOnCloseAction(func())          {}
