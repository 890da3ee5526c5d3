package main

import "encoding/binary"

// The header in front of each packet, as a TUN device with IFF_VNET_HDR has it: struct virtio_net_hdr, little endian.
const (
	vnetSize = 10

	vnetNeedsChecksum = 1
	vnetDataValid     = 2

	vnetSegmentNone  = 0
	vnetSegmentTCPv4 = 1
	vnetSegmentTCPv6 = 4
)

// vnetHeader says what of a packet is still to be done.
type vnetHeader struct {
	flags, segment                                      uint8
	headers, segmentSize, checksumStart, checksumOffset uint16
}

func (h vnetHeader) put(octets *[vnetSize]byte) {
	octets[0], octets[1] = h.flags, h.segment
	binary.LittleEndian.PutUint16(octets[2:], h.headers)
	binary.LittleEndian.PutUint16(octets[4:], h.segmentSize)
	binary.LittleEndian.PutUint16(octets[6:], h.checksumStart)
	binary.LittleEndian.PutUint16(octets[8:], h.checksumOffset)
}
