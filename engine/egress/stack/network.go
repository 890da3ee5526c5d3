package main

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// timeWait is how long a closed connection's port rests: RFC 9293's 2 MSL would use up a session's ports at a thousand connections a second.
const timeWait = 15 * time.Second

// network is the one stack that all sessions share, with a NIC each.
//
// Whatever belongs to a session is bound to its NIC, so that two sessions may have the same address: netstack then looks a
// packet's connection up by the NIC that it came in by, and sends by no other. Nothing is forwarded, nothing is looped back.
type network struct {
	stack  *stack.Stack
	budget *budget
	failed chan error // of a duct

	mutex    sync.RWMutex
	sessions map[uint64]*session
	ducts    []*duct     // by the number of the worker
	last     tcpip.NICID // a NIC's number is never used again
}

func newNetwork(octets int) (*network, error) {
	n := &network{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		}),
		budget:   newBudget(octets),
		failed:   make(chan error, 1),
		sessions: map[uint64]*session{},
	}
	// Without RACK (RFC 8985), whose timers in netstack cost more than they save on a line that keeps the order.
	sack, recovery, wait := tcpip.TCPSACKEnabled(true), tcpip.TCPRecovery(0), tcpip.TCPTimeWaitTimeoutOption(timeWait)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: smallestBuffer, Default: smallestBuffer, Max: largestBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: smallestBuffer, Default: smallestBuffer, Max: largestBuffer}
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &wait, &send, &receive} {
		if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return nil, fmt.Errorf("netstack: %s", err)
		}
	}
	return n, nil
}

// session is one PPPoE session: its NIC, its addresses, what is connected through it.
type session struct {
	key     uint64
	network *network
	nic     tcpip.NICID
	link    *link
	counts  counts

	mutex       sync.Mutex
	gone        bool
	addresses   map[netip.Addr]bool
	asked       []forward
	connections map[*connection]bool
	forwards    map[forward]*listener
}

// join has packets come and go through a duct from now on, in place of the one that had its number before.
func (n *network) join(number int, d *duct) {
	n.mutex.Lock()
	for len(n.ducts) <= number {
		n.ducts = append(n.ducts, nil)
	}
	former := n.ducts[number]
	n.ducts[number] = d
	n.mutex.Unlock()
	if former != nil {
		former.close()
	}
	go func() {
		if err := d.run(n.deliver); err != nil {
			n.failed <- err
		}
	}()
}

// deliver has a packet come to a session, if there is one.
func (n *network) deliver(slot uint32, first []byte, more ...[]byte) {
	if s := n.session(uint64(slot)); s != nil {
		s.link.deliver(first, more...)
	}
}

// ductOf is the one that a session's packets go out by, always the same, which keeps their order.
func (n *network) ductOf(slot uint32) *duct {
	n.mutex.RLock()
	defer n.mutex.RUnlock()
	if len(n.ducts) == 0 {
		return nil
	}
	return n.ducts[int(slot)%len(n.ducts)]
}

// moves tells whether packets do, by all ducts.
func (n *network) moves() bool {
	n.mutex.RLock()
	ducts := append([]*duct(nil), n.ducts...)
	n.mutex.RUnlock()
	all := true
	for _, d := range ducts {
		all = (d == nil || d.moves()) && all
	}
	return all
}

// begin makes a session.
func (n *network) begin(key uint64, mtu uint32) (*session, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.last++
	s := &session{
		key: key, network: n, nic: n.last, link: newLink(uint32(key), mtu, n.ductOf),
		addresses: map[netip.Addr]bool{}, connections: map[*connection]bool{}, forwards: map[forward]*listener{},
	}
	if err := n.stack.CreateNIC(s.nic, s.link); err != nil {
		return nil, fmt.Errorf("netstack: %s", err)
	}
	n.stack.AddRoute(tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: s.nic})
	n.stack.AddRoute(tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: s.nic})
	n.sessions[key] = s
	return s, nil
}

func (n *network) session(key uint64) *session {
	n.mutex.RLock()
	defer n.mutex.RUnlock()
	return n.sessions[key]
}

// end resets what is connected through s, and takes its NIC away.
func (n *network) end(s *session) {
	n.mutex.Lock()
	if n.sessions[s.key] == s {
		delete(n.sessions, s.key)
	}
	n.mutex.Unlock()
	s.mutex.Lock()
	if s.gone {
		s.mutex.Unlock()
		return
	}
	s.gone = true
	cut, listening := s.connectionsLocked(), s.forwards
	s.forwards = map[forward]*listener{}
	s.mutex.Unlock()
	for _, l := range listening {
		l.close()
	}
	for _, c := range cut {
		c.reset("the session is gone")
	}
	n.stack.RemoveNIC(s.nic)
	s.link.close()
}

func (s *session) connectionsLocked() []*connection {
	all := make([]*connection, 0, len(s.connections))
	for c := range s.connections {
		all = append(all, c)
	}
	return all
}

// use replaces MTU and addresses. What is connected from an address that is gone is reset.
func (s *session) use(mtu uint32, addresses []netip.Addr) error {
	s.link.mtu.Store(mtu)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.gone {
		return nil
	}
	now := map[netip.Addr]bool{}
	for _, address := range addresses {
		now[address] = true
	}
	for address := range s.addresses {
		if now[address] {
			continue
		}
		for _, c := range s.connectionsLocked() {
			if c.local.Addr() == address {
				go c.reset("its address is gone")
			}
		}
		s.network.stack.RemoveAddress(s.nic, addressOf(address.AsSlice()))
	}
	for address := range now {
		if s.addresses[address] {
			continue
		}
		assigned := tcpip.ProtocolAddress{Protocol: protocolOf(address), AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: addressOf(address.AsSlice()), PrefixLen: address.BitLen(),
		}}
		if err := s.network.stack.AddProtocolAddress(s.nic, assigned, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("netstack: %s: %s", address, err)
		}
	}
	s.addresses = now
	return nil
}

func (s *session) has(address netip.Addr) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return !s.gone && s.addresses[address]
}

func (s *session) add(c *connection) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.gone || !s.addresses[c.local.Addr()] {
		return false
	}
	s.connections[c] = true
	return true
}

func (s *session) remove(c *connection) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.connections, c)
}

func protocolOf(address netip.Addr) tcpip.NetworkProtocolNumber {
	if address.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// full is an address as netstack has it, on this session's NIC.
func (s *session) full(address netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: s.nic, Addr: addressOf(address.Addr().AsSlice()), Port: address.Port()}
}

func addrPort(full tcpip.FullAddress) netip.AddrPort {
	address, _ := netip.AddrFromSlice(octetsOf(full.Addr))
	return netip.AddrPortFrom(address, full.Port)
}
