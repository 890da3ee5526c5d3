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

// packetOf makes a packet of a copy of these octets.
func packetOf(octets []byte) packetBuffer {
	size := smallestView
	if len(octets) > size {
		size = len(octets)
	}
	k := pools[bits.Len(uint(size-1))].Get().(*kept)
	// Somebody may have the octets of last time still: then, and only then, a write gets the view others of its own.
	k.view.WriteAt(octets[:1], 0)
	copy(k.view.AsSlice(), octets)
	v := k.view.Clone()
	v.CapLength(len(octets))
	return newPacketBuffer(v, k.release)
}
