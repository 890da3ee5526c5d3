package main

import (
	"math/bits"
	"sync"
)

const (
	smallestView = 256
	largestView  = 64 << 10
)

// kept is a view that is filled again when netstack has done with the packet that lay in it: a new one would be cleared first.
type kept struct {
	view    *view
	release func()
}

// pools have kept views by size: a power of two, as netstack keeps them.
var pools [17]sync.Pool

func init() {
	for n := range pools {
		pool, size := &pools[n], 1<<n
		pool.New = func() any {
			k := &kept{view: newView(size)}
			k.release = func() { pool.Put(k) }
			return k
		}
	}
}

// packetOf makes a packet of a copy of these octets; there are some, and at most as many as the largest view has.
func packetOf(octets []byte, more ...[]byte) packetBuffer {
	length := len(octets)
	for _, part := range more {
		length += len(part)
	}
	size := smallestView
	if length > size {
		size = length
	}
	k := pools[bits.Len(uint(size-1))].Get().(*kept)
	// Somebody may have the octets of last time still: then, and only then, a write gets the view others of its own.
	k.view.WriteAt(octets[:1], 0)
	into := k.view.AsSlice()
	into = into[copy(into, octets):]
	for _, part := range more {
		into = into[copy(into, part):]
	}
	v := k.view.Clone()
	v.CapLength(length)
	return newPacketBuffer(v, k.release)
}
