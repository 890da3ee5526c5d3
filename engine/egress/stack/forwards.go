package main

import (
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const backlog = 128

// forward is a port of a session that leads to a host and port of the engine's.
type forward struct {
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
	To       string `json:"to"`

	address netip.Addr
}

// listener listens at one address of a session.
type listener struct {
	session  *session
	endpoint tcpip.Endpoint
	once     sync.Once
	ended    chan struct{}
}

func (l *listener) close() {
	l.once.Do(func() {
		close(l.ended)
		l.endpoint.Close()
	})
}

// listen makes the listeners what the forwards and addresses of now ask for.
func (s *session) listen(arrived func(*connection, string)) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.gone {
		return
	}
	wanted := map[forward]bool{}
	for _, f := range s.asked {
		for address := range s.addresses {
			if f.Protocol == "tcp" && !address.IsLinkLocalUnicast() {
				f.address = address
				wanted[f] = true
			}
		}
	}
	for f, l := range s.forwards {
		if !wanted[f] {
			l.close()
			delete(s.forwards, f)
		}
	}
	for f := range wanted {
		if s.forwards[f] != nil {
			continue
		}
		endpoint, queue, err := s.endpoint(tcp.ProtocolNumber, netip.AddrPortFrom(f.address, f.Port))
		if err != nil {
			continue
		}
		if failure := endpoint.Listen(backlog); failure != nil {
			endpoint.Abort()
			continue
		}
		l := &listener{session: s, endpoint: endpoint, ended: make(chan struct{})}
		s.forwards[f] = l
		go l.run(queue, f.To, arrived)
	}
}

func (l *listener) run(queue *waiter.Queue, to string, arrived func(*connection, string)) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	for {
		endpoint, its, failure := l.endpoint.Accept(nil)
		if failure != nil {
			if _, nobody := failure.(*tcpip.ErrWouldBlock); !nobody {
				return
			}
			select {
			case <-ready:
			case <-l.ended:
				return
			}
			continue
		}
		c := &connection{session: l.session, network: "tcp", endpoint: endpoint, queue: its, since: time.Now(), cut: make(chan struct{})}
		// What is forwarded to can't see by itself that a far host has gone without a word: it is connected to the engine.
		endpoint.SocketOptions().SetKeepAlive(true)
		local, _ := endpoint.GetLocalAddress()
		remote, _ := endpoint.GetRemoteAddress()
		c.local, c.remote = addrPort(local), addrPort(remote)
		if !l.session.network.budget.join(endpoint, true) || !l.session.add(c) {
			l.session.counts.refused.Add(1)
			c.reset("too many")
			continue
		}
		arrived(c, to)
	}
}
