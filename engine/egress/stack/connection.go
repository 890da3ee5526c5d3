package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// counts is what a session, or a connection, has carried in octets of payload.
type counts struct {
	in, out, opened, refused atomic.Uint64
}

// connection is one TCP connection or UDP socket of a session.
type connection struct {
	session  *session
	network  string
	endpoint tcpip.Endpoint
	queue    *waiter.Queue
	local    netip.AddrPort
	remote   netip.AddrPort
	since    time.Time
	in, out  atomic.Uint64

	once sync.Once
	cut  chan struct{} // closed when it is reset
	why  string
}

func (c *connection) addIn(octets int) {
	c.in.Add(uint64(octets))
	c.session.counts.in.Add(uint64(octets))
}

func (c *connection) addOut(octets int) {
	c.out.Add(uint64(octets))
	c.session.counts.out.Add(uint64(octets))
}

// reset ends the connection at once, with RST if it is TCP; who copies for it is woken.
func (c *connection) reset(why string) {
	c.end(why, func() {
		c.endpoint.Abort()
		close(c.cut)
	})
}

// close ends it in order.
func (c *connection) close(why string) { c.end(why, c.endpoint.Close) }

func (c *connection) end(why string, how func()) {
	c.once.Do(func() {
		c.why = why
		how()
		c.session.remove(c)
		c.session.network.budget.leave(c.endpoint)
	})
}

// resetWhenIdle resets a connection that carries nothing for so long, until stop is called; 0 is never.
func (c *connection) resetWhenIdle(limit time.Duration) (stop func()) {
	if limit <= 0 {
		return func() {}
	}
	carried := c.in.Load() + c.out.Load()
	var timer *time.Timer
	var mutex sync.Mutex
	mutex.Lock()
	defer mutex.Unlock()
	timer = time.AfterFunc(limit, func() {
		mutex.Lock()
		defer mutex.Unlock()
		now := c.in.Load() + c.out.Load()
		if now == carried {
			c.reset("idle")
			return
		}
		carried = now
		timer.Reset(limit)
	})
	return func() {
		mutex.Lock()
		defer mutex.Unlock()
		timer.Stop()
	}
}

// refusal says why there is no connection, in the words of the contract.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	refused       = refusal("refused")
	unreachable   = refusal("unreachable")
	timedOut      = refusal("timed out")
	noSuchSession = refusal("no such session")
	noAddress     = refusal("no address")
	tooMany       = refusal("too many")
)

func refusalOf(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrConnectionRefused, *tcpip.ErrConnectionReset:
		return refused
	case *tcpip.ErrTimeout:
		return timedOut
	case *tcpip.ErrNoPortAvailable, *tcpip.ErrPortInUse, *tcpip.ErrNoBufferSpace:
		return tooMany
	case *tcpip.ErrBadLocalAddress:
		return noAddress
	}
	return unreachable
}

// endpoint makes a netstack socket that belongs to the session's NIC alone.
func (s *session) endpoint(transport tcpip.TransportProtocolNumber, local netip.AddrPort) (tcpip.Endpoint, *waiter.Queue, error) {
	queue := &waiter.Queue{}
	endpoint, failure := s.network.stack.NewEndpoint(transport, protocolOf(local.Addr()), queue)
	if failure != nil {
		return nil, nil, fmt.Errorf("netstack: %s", failure)
	}
	options := endpoint.SocketOptions()
	options.SetV6Only(true)
	failure = options.SetBindToDevice(int32(s.nic))
	if failure == nil {
		failure = endpoint.Bind(s.full(local))
	}
	if failure != nil {
		endpoint.Abort()
		return nil, nil, refusalOf(failure)
	}
	return endpoint, queue, nil
}

// dial connects from source, one of the session's addresses, to a host and port; without `to` a UDP socket hears anybody.
func (s *session) dial(ctx context.Context, network string, source netip.Addr, to netip.AddrPort) (*connection, error) {
	if !s.has(source) {
		return nil, noAddress
	}
	if to.IsValid() && to.Addr().Is4() != source.Is4() {
		return nil, unreachable
	}
	var transport tcpip.TransportProtocolNumber = tcp.ProtocolNumber
	if network == "udp" {
		transport = udp.ProtocolNumber
	}
	endpoint, queue, err := s.endpoint(transport, netip.AddrPortFrom(source, 0))
	if err != nil {
		return nil, err
	}
	c := &connection{session: s, network: network, endpoint: endpoint, queue: queue, remote: to, since: time.Now(), cut: make(chan struct{})}
	if !s.network.budget.join(endpoint, false) {
		endpoint.Abort()
		return nil, tooMany
	}
	if full, failure := endpoint.GetLocalAddress(); failure == nil {
		c.local = addrPort(full)
	}
	if !s.add(c) {
		c.reset("its address is gone")
		return nil, noAddress
	}
	if to.IsValid() {
		if err := c.connect(ctx, to); err != nil {
			c.reset(err.Error())
			return nil, err
		}
	}
	return c, nil
}

func (c *connection) connect(ctx context.Context, to netip.AddrPort) error {
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	failure := c.endpoint.Connect(c.session.full(to))
	if _, started := failure.(*tcpip.ErrConnectStarted); !started {
		if failure != nil {
			return refusalOf(failure)
		}
		return nil
	}
	for {
		select {
		case <-ready:
		case <-c.cut:
			return noAddress
		case <-ctx.Done():
			if ctx.Err() == context.DeadlineExceeded {
				return timedOut
			}
			return refused
		}
		if failure := c.endpoint.LastError(); failure != nil {
			return refusalOf(failure)
		}
		switch tcp.EndpointState(c.endpoint.State()) {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
			continue
		case tcp.StateError, tcp.StateClose:
			return refused
		}
		return nil
	}
}

// described is a connection as the engine is told of it.
type described struct {
	Protocol string  `json:"protocol"`
	Local    string  `json:"local"`
	Remote   string  `json:"remote"`
	In       uint64  `json:"in"`
	Out      uint64  `json:"out"`
	State    string  `json:"state"`
	Since    float64 `json:"since"`
}

func (c *connection) describe() described {
	d := described{
		Protocol: c.network, Local: c.local.String(), In: c.in.Load(), Out: c.out.Load(),
		State: "open", Since: time.Since(c.since).Seconds(),
	}
	if c.remote.IsValid() {
		d.Remote = c.remote.String()
	}
	if c.network == "tcp" {
		d.State = states[tcp.EndpointState(c.endpoint.State())]
	}
	return d
}

var states = map[tcp.EndpointState]string{
	tcp.StateConnecting: "connecting", tcp.StateSynSent: "syn-sent", tcp.StateSynRecv: "syn-received",
	tcp.StateEstablished: "established", tcp.StateFinWait1: "fin-wait-1", tcp.StateFinWait2: "fin-wait-2",
	tcp.StateCloseWait: "close-wait", tcp.StateClosing: "closing", tcp.StateLastAck: "last-ack",
	tcp.StateTimeWait: "time-wait", tcp.StateClose: "closed", tcp.StateError: "reset",
}
