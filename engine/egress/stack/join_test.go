package main

import (
	"bytes"
	"encoding/binary"
	"math/rand"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// segment is a TCP segment of 5 or 8 words of header, as the data path brings it.
type segment struct {
	slot          uint32
	version, port byte
	flags, window byte
	sequence, ack uint32
	stamp         uint32 // 0 is no option
	size          int
}

func (s segment) octets() []byte {
	options := []byte{}
	if s.stamp != 0 {
		options = binary.BigEndian.AppendUint32(append(options, 1, 1, 8, 10), s.stamp)
		options = append(options, 0, 0, 0, 1)
	}
	tcp := []byte{0, 80, 0, s.port}
	tcp = binary.BigEndian.AppendUint32(tcp, s.sequence)
	tcp = binary.BigEndian.AppendUint32(tcp, s.ack)
	tcp = append(tcp, byte(20+len(options))<<2, s.flags, 0, s.window, 0, 0, 0, 0)
	tcp = append(tcp, options...)
	for n := 0; n < s.size; n++ {
		tcp = append(tcp, byte(s.sequence+uint32(n)))
	}
	vnet := make([]byte, vnetSize)
	vnet[0] = vnetDataValid
	if s.version == 6 {
		ip := make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, 6, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(tcp)))
		return append(append(vnet, ip...), tcp...)
	}
	ip := make(header.IPv4, 20)
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, 6
	ip.SetTotalLength(uint16(20 + len(tcp)))
	ip.SetChecksum(^ip.CalculateChecksum())
	return append(append(vnet, ip...), tcp...)
}

// joined is what comes of packets, each whole.
func joined(t *testing.T, packets ...segment) (came [][]byte) {
	j := newJoiner(func(slot uint32, first []byte, more ...[]byte) {
		came = append(came, bytes.Join(append([][]byte{first}, more...), nil))
	})
	for round := 0; round < 2; round++ { // what is left of the first doesn't matter
		came = nil
		for _, packet := range packets {
			j.add(packet.slot, packet.octets())
		}
		j.flush()
	}
	for _, packet := range came {
		ip := header.IPv4(packet[vnetSize:])
		if ip[0] == 0x45 && (!ip.IsChecksumValid() || int(ip.TotalLength()) != len(ip)) {
			t.Errorf("a packet of %d octets whose header says %d, checksum %t", len(ip), ip.TotalLength(), ip.IsChecksumValid())
		}
		if six := header.IPv6(ip); ip[0] == 0x60 && int(six.PayloadLength()) != len(ip)-40 {
			t.Errorf("a packet of %d octets whose header says %d", len(ip), six.PayloadLength())
		}
	}
	return came
}

func TestSegmentsThatFollowComeAsOne(t *testing.T) {
	for _, version := range []byte{4, 6} {
		one := segment{version: version, port: 1, flags: 0x10, ack: 7, window: 9, sequence: 1<<32 - 1000, size: 1000, stamp: 5}
		two, three := one, one
		two.sequence, two.stamp = 0, 6
		three.sequence, three.size, three.flags = 1000, 10, 0x18
		whole := one
		whole.size, whole.flags = 2010, 0x18
		other, their, last := one, two, one
		other.port, their.port = 2, 2
		last.port, last.flags, last.size = 3, 0x11, 0
		came := joined(t, one, other, two, their, three, last)
		pair := other
		pair.size = 2000
		for n, expected := range []segment{whole, pair, last} {
			if n >= len(came) || !bytes.Equal(came[n], expected.octets()) {
				t.Fatalf("IPv%d: packet %d of %d isn't what was expected", version, n, len(came))
			}
		}
	}
}

func TestSegmentsThatDoNotFollowComeAsTheyAre(t *testing.T) {
	one := segment{version: 4, port: 1, flags: 0x10, ack: 7, window: 9, size: 1000}
	next := func(change func(*segment)) segment {
		two := one
		two.sequence = 1000
		change(&two)
		return two
	}
	for n, two := range []segment{
		next(func(s *segment) { s.sequence++ }),
		next(func(s *segment) { s.sequence-- }),
		next(func(s *segment) { s.ack++ }),
		next(func(s *segment) { s.window++ }),
		next(func(s *segment) { s.flags |= 1 }),
		next(func(s *segment) { s.flags |= 4 }),
		next(func(s *segment) { s.slot++ }),
		next(func(s *segment) { s.stamp++ }),
		next(func(s *segment) { s.port++ }),
		next(func(s *segment) { s.version = 6 }),
		next(func(s *segment) { s.size = 0 }),
		next(func(s *segment) { s.size = 65000 }),
	} {
		came := joined(t, one, two)
		if len(came) != 2 || !bytes.Equal(came[0], one.octets()) || !bytes.Equal(came[1], two.octets()) {
			t.Errorf("%d: %d packets", n, len(came))
		}
	}
}

// Whatever a packet holds, each comes in its turn among those of its session, and none of its data twice.
func TestJoinerBelievesNothing(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for round := 0; round < 20000; round++ {
		given, came := 0, 0
		j := newJoiner(func(slot uint32, first []byte, more ...[]byte) {
			came += 1 + len(more)
			packet := packetOf(first[vnetSize:], more...)
			packet.DecRef()
		})
		for n := uint32(0); n < 4; n++ {
			octets := segment{version: byte(4 + 2*random.Intn(2)), flags: 0x10, sequence: n * 10, size: 10}.octets()
			for spoiled := random.Intn(4); spoiled > 0; spoiled-- {
				octets[random.Intn(len(octets))] = byte(random.Intn(256))
			}
			if random.Intn(4) == 0 {
				octets = octets[:vnetSize+1+random.Intn(len(octets)-vnetSize)]
			}
			j.add(0, octets)
			given++
		}
		j.flush()
		if came != given {
			t.Fatalf("round %d: %d of %d packets", round, came, given)
		}
	}
}
