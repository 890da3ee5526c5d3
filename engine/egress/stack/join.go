package main

import (
	"bytes"
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// flow is a direction of a TCP connection of one session; IPv4 leaves the rest of its ends zero.
type flow struct {
	slot uint32
	ends [36]byte
}

// train is packets of a flow that wait together in the ring and follow each other: netstack gets them as one.
type train struct {
	flow        flow
	first       []byte // with the vnet header in front
	more        [][]byte
	start, data int    // where TCP begins in first, and its data do
	length      int    // of all, with the vnet header
	next        uint32 // the sequence number that would follow
	push        byte
}

// joiner collects trains until it is flushed. What it holds lies in the ring, and must stay there until then.
type joiner struct {
	deliver func(slot uint32, first []byte, more ...[]byte)
	trains  []train
	latest  map[flow]int
}

func newJoiner(deliver func(slot uint32, first []byte, more ...[]byte)) *joiner {
	return &joiner{deliver: deliver, latest: map[flow]int{}}
}

// add delivers a packet with the next flush; at once, after all that came before, if it can be part of no train.
func (j *joiner) add(slot uint32, octets []byte) {
	t, joinable := trainOf(slot, octets)
	if !joinable {
		j.flush()
		j.deliver(slot, octets)
		return
	}
	if n, known := j.latest[t.flow]; known && j.trains[n].follow(&t) {
		return
	}
	j.latest[t.flow] = len(j.trains)
	if len(j.trains) < cap(j.trains) { // with the room of one that was there before
		t.more = j.trains[:cap(j.trains)][len(j.trains)].more[:0]
	}
	j.trains = append(j.trains, t)
}

func (j *joiner) flush() {
	for n := range j.trains {
		t := &j.trains[n]
		delete(j.latest, t.flow)
		if len(t.more) != 0 {
			t.finish()
		}
		j.deliver(t.flow.slot, t.first, t.more...)
	}
	j.trains = j.trains[:0]
}

const protocolTCP = uint8(header.TCPProtocolNumber)

// trainOf is a packet by itself; false for what isn't TCP with data and nothing special about it, or isn't known to be right.
func trainOf(slot uint32, octets []byte) (t train, joinable bool) {
	if len(octets) <= vnetSize || octets[0]&(vnetNeedsChecksum|vnetDataValid) == 0 {
		return t, false
	}
	t = train{flow: flow{slot: slot}, first: octets, length: len(octets)}
	packet := octets[vnetSize:]
	switch ip := header.IPv4(packet); {
	case len(packet) >= header.IPv4MinimumSize && packet[0] == 0x45:
		if packet[9] != protocolTCP || ip.More() || ip.FragmentOffset() != 0 || int(ip.TotalLength()) != len(packet) {
			return t, false
		}
		t.start = header.IPv4MinimumSize
		copy(t.flow.ends[:], packet[12:20])
	case len(packet) >= header.IPv6MinimumSize && packet[0]>>4 == 6:
		if ip := header.IPv6(packet); packet[6] != protocolTCP || int(ip.PayloadLength())+header.IPv6MinimumSize != len(packet) {
			return t, false
		}
		t.start = header.IPv6MinimumSize
		copy(t.flow.ends[:], packet[8:40])
	default:
		return t, false
	}
	if len(packet) < t.start+header.TCPMinimumSize {
		return t, false
	}
	segment := header.TCP(packet[t.start:])
	t.data = t.start + int(segment.DataOffset())
	if t.data < t.start+header.TCPMinimumSize || t.data >= len(packet) ||
		segment.Flags()&^header.TCPFlagPsh != header.TCPFlagAck {
		return t, false
	}
	copy(t.flow.ends[len(t.flow.ends)-4:], segment[:4])
	t.next = segment.SequenceNumber() + uint32(len(packet)-t.data)
	t.push = uint8(segment.Flags() & header.TCPFlagPsh)
	return t, true
}

// follow appends another's packet, if segmentation could have made both of one.
func (t *train) follow(other *train) bool {
	one, two := t.first[vnetSize:], other.first[vnetSize:]
	more := two[other.data:]
	if other.start != t.start || other.data != t.data || t.length+len(more) > vnetSize+largestPacket ||
		header.TCP(two[t.start:]).SequenceNumber() != t.next ||
		!alike(one[:t.start], two, ipAlike[t.start]) || !alike(one[t.start:t.data], two[t.start:], tcpAlike) ||
		!sameOptions(one[t.start+header.TCPMinimumSize:t.data], two[t.start+header.TCPMinimumSize:other.data]) {
		return false
	}
	t.more = append(t.more, more)
	t.length += len(more)
	t.next = other.next
	t.push |= other.push
	return true
}

// Which octets of a header, from and to, are the same in all that segmentation makes of a packet, besides the ends.
var (
	ipAlike = map[int][][2]int{
		header.IPv4MinimumSize: {{0, 2}, {6, 10}}, // all but length, identification and checksum
		header.IPv6MinimumSize: {{0, 4}, {6, 8}},  // all but the length
	}
	tcpAlike = [][2]int{{8, 13}, {14, 16}, {18, 20}} // all but sequence number, flags and checksum
)

func alike(one, two []byte, ranges [][2]int) bool {
	for _, r := range ranges {
		if !bytes.Equal(one[r[0]:r[1]], two[r[0]:r[1]]) {
			return false
		}
	}
	return true
}

// stamped is how options begin that are a timestamp and nothing else.
var stamped = []byte{header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionTS, header.TCPOptionTSLength}

// sameOptions says whether the earlier ones, as long as the others, can stand for both: RFC 7323, section 4.3, of timestamps.
func sameOptions(one, two []byte) bool {
	timestamps := len(one) == 2+header.TCPOptionTSLength && bytes.HasPrefix(one, stamped) && bytes.HasPrefix(two, stamped)
	return timestamps || bytes.Equal(one, two)
}

// finish makes the first packet's header that of all.
func (t *train) finish() {
	packet := t.first[vnetSize:]
	length := uint16(t.length - vnetSize)
	if t.start == header.IPv4MinimumSize {
		ip := header.IPv4(packet)
		ip.SetTotalLength(length)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
	} else {
		binary.BigEndian.PutUint16(packet[4:], length-header.IPv6MinimumSize)
	}
	packet[t.start+13] |= t.push
}
