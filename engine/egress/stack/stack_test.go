package main

import (
	"bytes"
	"fmt"
	"math/rand"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
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

// Whatever the size and the order, and whether or not its place is somebody else's still, a packet is what was received.
func TestPacketsAreCopiedWhole(t *testing.T) {
	var held []packetBuffer
	var meant [][]byte
	for n, size := range []int{20, 1492, 65535, 52, 40000, 2048, 2049, 30000, 65535, 65535, 1, 4096, 4097, 33000, 52, 65535} {
		sent := make([]byte, size)
		for i := range sent {
			sent[i] = byte(i*7 + n)
		}
		packet := packetOf(sent)
		clone := packet.Clone() // which outlives it
		packet.DecRef()
		held, meant = append(held, clone), append(meant, sent)
	}
	for n, packet := range held {
		if got := bytes.Join(packet.AsSlices(), nil); !bytes.Equal(got, meant[n]) {
			t.Fatalf("%d octets came as %d others", len(meant[n]), len(got))
		}
		packet.DecRef()
	}
}

// ductPair is a duct and the same memory seen from the other end.
func ductPair(t *testing.T) (near, far *duct) {
	memory, err := unix.MemfdCreate("duct", 0)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := unix.Dup(memory)
	unix.Ftruncate(memory, ductStart+2*smallestDuct)
	bells, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, err = newDuct(memory, bells[0])
	if err == nil {
		far, err = newDuct(other, bells[1])
	}
	if err != nil {
		t.Fatal(err)
	}
	far.in, far.out, far.arriving, far.leaving = far.out, far.in, far.leaving, far.arriving
	return near, far
}

func TestDuctsKeepPacketsAndTheirOrder(t *testing.T) {
	near, far := ductPair(t)
	const many = 20000
	came := make(chan error, 1)
	n := 0
	go near.run(func(slot uint32, packet []byte, _ ...[]byte) {
		size := 1 + n*7919%65000
		if slot != uint32(n) || len(packet) != size || packet[0] != byte(n) || packet[size-1] != byte(n) {
			came <- fmt.Errorf("packet %d: slot %d, %d octets", n, slot, len(packet))
		}
		if n++; n == many {
			came <- nil
		}
	})
	for i := 0; i < many; {
		packet := bytes.Repeat([]byte{byte(i)}, 1+i*7919%65000)
		far.mutex.Lock()
		if far.put(uint32(i), len(packet), packet[:len(packet)/2], packet[len(packet)/2:]) {
			i++
		}
		far.tell()
		far.mutex.Unlock()
	}
	if err := <-came; err != nil {
		t.Fatal(err)
	}
	near.close()
	far.close()
}

// One short packet is enough to wake who sleeps; many are told of by fewer bells than there are.
func TestDuctsRingOnceForMany(t *testing.T) {
	near, far := ductPair(t)
	var heard [64]byte
	for _, many := range []int{1, 100} {
		atomic.StoreUint32(&far.out.sleeping, 1)
		far.mutex.Lock()
		for n := 0; n < many; n++ {
			far.put(0, 100, make([]byte, 100))
			far.tell()
		}
		far.mutex.Unlock()
		if n, err := near.bell.Read(heard[:]); n != 1 || err != nil {
			t.Fatalf("%d packets rang %d times (%v)", many, n, err)
		}
	}
	near.close()
	far.close()
}

// Who had nobody beside him in the last turn wakes the worker at once; who had leaves it to the next turn.
func TestDuctsRingAtOnceForWhoIsAlone(t *testing.T) {
	near, far := ductPair(t)
	var heard [64]byte
	say := func(many int) (atOnce bool) {
		atomic.StoreUint32(&far.out.sleeping, 1)
		far.mutex.Lock() // which a turn needs
		for n := 0; n < many; n++ {
			far.put(0, 100, make([]byte, 100))
			far.tell()
		}
		atOnce = atomic.LoadUint32(&far.out.sleeping) == 0
		far.mutex.Unlock()
		near.bell.Read(heard[:])
		for turn := true; turn; runtime.Gosched() {
			far.mutex.Lock()
			turn = far.turn
			far.mutex.Unlock()
		}
		return atOnce
	}
	for n, expected := range []struct {
		many   int
		atOnce bool
	}{{1, true}, {1, true}, {2, true}, {1, false}, {1, true}, {2, true}, {2, false}} {
		if say(expected.many) == expected.atOnce {
			continue
		}
		t.Fatalf("step %d: %d packets rang at once: %t", n, expected.many, !expected.atOnce)
	}
	near.close()
	far.close()
}

// The data path may close its end at any time; who has packets to write is told so, and touches no memory that is gone.
func TestDuctsOutliveTheOtherEnd(t *testing.T) {
	near, far := ductPair(t)
	ended := make(chan error, 1)
	go func() { ended <- near.run(func(uint32, []byte, ...[]byte) {}) }()
	far.close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	l := newLink(0, 1492, func(uint32) *duct { return near })
	var packets stack.PacketBufferList
	packets.PushBack(packetOf(make([]byte, 100)))
	if _, err := l.WritePackets(packets); err == nil {
		t.Fatal("written to nobody")
	}
	near.mutex.Lock()
	defer near.mutex.Unlock()
	if near.putInTime(0, 100, make([]byte, 100)) {
		t.Fatal("put where nothing is")
	}
	near.tell()
}

// A packet that is delivered still when it is asked about again is one too long.
func TestPacketsMoveOrDoNot(t *testing.T) {
	near, far := ductPair(t)
	n, err := newNetwork(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	n.ducts = []*duct{nil, near}
	within, goOn := make(chan bool), make(chan bool)
	go near.run(func(uint32, []byte, ...[]byte) { within <- true; <-goOn })
	for i := 0; i < 2; i++ {
		if !n.moves() || !n.moves() {
			t.Fatal("it stands still with nothing to do")
		}
		far.mutex.Lock()
		far.put(0, 100, make([]byte, 100))
		far.wake()
		far.mutex.Unlock()
		<-within
		if !n.moves() {
			t.Fatal("it stands still with its first packet")
		}
		if n.moves() || n.moves() {
			t.Fatal("it moves")
		}
		goOn <- true
		for near.steps.Load()%2 == 1 {
			runtime.Gosched()
		}
	}
	near.close()
	far.close()
}

// Whatever the other side's memory holds, a packet lies within the ring, or is none.
func TestDuctsBelieveNothing(t *testing.T) {
	near, _ := ductPair(t)
	chance := rand.New(rand.NewSource(1))
	for range make([]struct{}, 200000) {
		words := []uint32{0, 8, 16, 65545, near.size - 8, near.size, ductSkip, chance.Uint32(), chance.Uint32() & ^uint32(7)}
		pick := func() uint32 { return words[chance.Intn(len(words))] }
		near.tail = pick() & ^uint32(7)
		near.in.head = near.tail + pick()
		mark(near.arriving[near.tail%near.size:], pick(), 0)
		mark(near.arriving, pick(), 0)
		before := near.in.head - near.tail
		if _, packet, whole, err := near.take(); err == nil && (whole > before || uint32(len(packet)) > whole) {
			t.Fatalf("%d octets of %d", len(packet), before)
		}
		near.out.tail = near.head + pick()
		near.put(0, 1000, make([]byte, 1000))
	}
	near.close()
}

func TestSharesOfTheBudget(t *testing.T) {
	n, err := newNetwork(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.begin(1, 1492)
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
		if !n.budget.join(endpoint, false) {
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
	if n.budget.join(endpoint, false) {
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
