package main

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestVnetHeaderIsLittleEndian(t *testing.T) {
	var octets [vnetSize]byte
	vnetHeader{vnetNeedsChecksum, vnetSegmentTCPv6, 60, 1432, 40, 16}.put(&octets)
	want := [vnetSize]byte{1, 4, 60, 0, 0x98, 5, 40, 0, 16, 0}
	if octets != want {
		t.Fatalf("%v, want %v", octets, want)
	}
}

func TestPeersBeforeDatagrams(t *testing.T) {
	for _, text := range []string{"192.0.2.1:53", "[2001:db8::1]:65535"} {
		peer := netip.MustParseAddrPort(text)
		message := make([]byte, 1+peer.Addr().BitLen()/8+2+3)
		putPeer(message, peer)
		copy(message[len(message)-3:], "abc")
		got, size := peerOf(message)
		if got != peer || string(message[size:]) != "abc" {
			t.Fatalf("%v of %v", got, message)
		}
		for length := 0; length < size; length++ {
			if _, size := peerOf(message[:length]); size != 0 {
				t.Fatalf("a peer in %v", message[:length])
			}
		}
	}
	if _, size := peerOf([]byte{5, 1, 2, 3, 4, 5, 6}); size != 0 {
		t.Fatal("a peer of no family")
	}
}

// Whatever the size and the order, a packet is received whole, and what it keeps suits its size.
func TestPacketsAreReceivedWhole(t *testing.T) {
	in := newInbound()
	for _, size := range []int{20, 1492, 65535, 52, 40000, 2048, 2049, 30000, 65535, 65535, 1, 4096, 4097, 33000} {
		sent := make([]byte, size)
		for i := range sent {
			sent[i] = byte(i * 7)
		}
		in.point()
		into := [][]byte{in.view.AsSlice(), in.rest.AsSlice()}
		copy(into[1], sent[copy(into[0], sent):])
		packet := in.take(size)
		got := bytes.Join(packet.AsSlices(), nil)
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d octets came as %d", size, len(got))
		}
		packet.DecRef()
	}
}

func TestSharesOfTheBudget(t *testing.T) {
	n, err := newNetwork(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	s, err := n.begin(1, pair[1], 1492)
	if err != nil {
		t.Fatal(err)
	}
	local := netip.MustParseAddr("100.64.0.2")
	if err := s.use(1492, []netip.Addr{local}); err != nil {
		t.Fatal(err)
	}
	var endpoints []tcpip.Endpoint
	for len(endpoints) < 1<<20/(2*smallestBuffer) {
		endpoint, _, err := s.endpoint(header.TCPProtocolNumber, netip.AddrPortFrom(local, 0))
		if err != nil {
			t.Fatal(err)
		}
		if !n.budget.join(endpoint) {
			t.Fatalf("the budget is spent with %d", len(endpoints))
		}
		endpoints = append(endpoints, endpoint)
		held := int64(0)
		for _, each := range endpoints {
			options := each.SocketOptions()
			held += 2*options.GetSendBufferSize() + options.GetReceiveBufferSize()
		}
		if held > 1<<20 {
			t.Fatalf("%d connections may hold %d octets", len(endpoints), held)
		}
	}
	endpoint, _, _ := s.endpoint(header.TCPProtocolNumber, netip.AddrPortFrom(local, 0))
	if n.budget.join(endpoint) {
		t.Fatal("one more than the budget is for")
	}
	for _, each := range endpoints[1:] {
		n.budget.leave(each)
	}
	if got := endpoints[0].SocketOptions().GetReceiveBufferSize(); got != 1<<19 {
		t.Fatalf("one alone may hold %d octets of what it is sent", got)
	}
	n.end(s)
}
