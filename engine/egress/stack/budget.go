package main

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
)

const (
	smallestBuffer = 4 << 10
	largestBuffer  = 4 << 20
)

// budget caps the octets that all connections' buffers may hold: each has an equal share, half for each direction.
//
// When there are more connections, all get less; what a buffer then holds beyond its share it may still send or have read.
// Those that come in get half of it at most: anybody on the Internet can have them, and who dials would have nothing left.
type budget struct {
	octets int

	mutex  sync.Mutex
	users  map[tcpip.Endpoint]bool // whether each came in
	cameIn int
	share  int
}

func newBudget(octets int) *budget {
	return &budget{octets: octets, users: map[tcpip.Endpoint]bool{}, share: largestBuffer}
}

// join gives an endpoint its share; false if there is none left.
func (b *budget) join(endpoint tcpip.Endpoint, cameIn bool) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.octets/(2*(len(b.users)+1)) < smallestBuffer || cameIn && b.octets/(4*(b.cameIn+1)) < smallestBuffer {
		return false
	}
	if cameIn {
		b.cameIn++
	}
	b.users[endpoint] = cameIn
	b.divide()
	b.give(endpoint)
	return true
}

func (b *budget) leave(endpoint tcpip.Endpoint) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.users[endpoint] {
		b.cameIn--
	}
	delete(b.users, endpoint)
	b.divide()
}

// divide changes everybody's share when it is another power of two.
func (b *budget) divide() {
	share := largestBuffer
	for share > smallestBuffer && share*2*len(b.users) > b.octets {
		share /= 2
	}
	if share == b.share {
		return
	}
	b.share = share
	for endpoint := range b.users {
		b.give(endpoint)
	}
}

func (b *budget) give(endpoint tcpip.Endpoint) {
	options := endpoint.SocketOptions()
	// What is to be sent lies in views of a power of two, which take up to twice its size.
	options.SetSendBufferSize(int64(b.share/2), true)
	options.SetReceiveBufferSize(int64(b.share), true)
}
