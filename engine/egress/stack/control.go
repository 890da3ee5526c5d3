package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime/metrics"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	protocol    = 3
	mostListed  = 200
	pingTimeout = 5 * time.Second
	undecided   = 30 * time.Second
)

// controlMessage is what the engine may say.
type controlMessage struct {
	Type      string    `json:"type"`
	Protocol  int       `json:"protocol"`
	Budget    int       `json:"budget"`
	ID        uint64    `json:"id"`
	Key       uint64    `json:"key"`
	MTU       uint32    `json:"mtu"`
	Addresses []string  `json:"addresses"`
	LinkLocal string    `json:"link_local"`
	Forwards  []forward `json:"forwards"`
	To        string    `json:"to"`
	Size      int       `json:"size"`
}

type hello struct {
	Type     string `json:"type"`
	Protocol int    `json:"protocol"`
	Release  string `json:"release"`
	Stack    string `json:"stack"`
}

type pong struct {
	Type  string  `json:"type"`
	ID    uint64  `json:"id"`
	Ms    float64 `json:"ms,omitempty"`
	Error string  `json:"error,omitempty"`
}

type beat struct {
	Type string `json:"type"`
	ID   uint64 `json:"id"`
}

type arrival struct {
	Type string `json:"type"`
	ID   uint64 `json:"id"`
	Key  uint64 `json:"key"`
	To   string `json:"to"`
	From string `json:"from"`
}

type counted struct {
	Connections int    `json:"connections"`
	In          uint64 `json:"in"`
	Out         uint64 `json:"out"`
	Opened      uint64 `json:"opened"`
	Refused     uint64 `json:"refused"`
}

type allCounts struct {
	Type     string             `json:"type"`
	Sessions map[string]counted `json:"sessions"`
	Memory   uint64             `json:"memory"`
}

type listed struct {
	Type        string      `json:"type"`
	ID          uint64      `json:"id"`
	Connections []described `json:"connections"`
}

// control is the engine's end: it says which sessions there are.
type control struct {
	messages *messages
	network  *network

	mutex    sync.Mutex
	last     uint64
	arrivals map[uint64]*connection
}

// serveControl does what the engine says until that ends, which is no error.
func serveControl(socket int) error {
	if err := obey(socket); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	return nil
}

// obey does what is said on the socket until it can't go on.
func obey(socket int) error {
	messages, err := newMessages(socket)
	if err != nil {
		return err
	}
	if err := messages.send(hello{"hello", protocol, release, stackVersion}); err != nil {
		return err
	}
	var m controlMessage
	sockets, err := messages.receive(&m)
	closeAll(sockets)
	switch {
	case err != nil:
		return err
	case m.Type != "hello" || m.Protocol != protocol:
		return fmt.Errorf("the engine speaks protocol %d, this program %d", m.Protocol, protocol)
	}
	network, err := newNetwork(m.Budget)
	if err != nil {
		return err
	}
	failed := network.failed
	c := &control{messages: messages, network: network, arrivals: map[uint64]*connection{}}
	go c.count()
	go func() {
		for {
			if err := c.receive(); err != nil {
				failed <- err
				return
			}
		}
	}()
	return <-failed
}

func (c *control) receive() error {
	var m controlMessage
	sockets, err := c.messages.receive(&m)
	if err != nil {
		return err
	}
	if m.Type == "duct" && len(sockets) == 2 {
		d, err := newDuct(sockets[0], sockets[1])
		if err == nil {
			c.network.join(int(m.ID), d)
		}
		return err
	}
	if len(sockets) == 1 {
		switch m.Type {
		case "client":
			go serveClient(c.network, sockets[0])
			return nil
		case "take":
			c.take(m.ID, sockets[0])
			return nil
		}
	}
	closeAll(sockets)
	s := c.network.session(m.Key)
	switch m.Type {
	case "session":
		return c.use(s, m)
	case "gone":
		if s != nil {
			c.network.end(s)
		}
	case "forwards":
		if s != nil {
			s.mutex.Lock()
			s.asked = m.Forwards
			s.mutex.Unlock()
			s.listen(c.arrived(s))
		}
	case "refuse":
		if a := c.arrival(m.ID); a != nil {
			a.reset("refused")
		}
	case "beat":
		if c.network.moves() {
			return c.messages.send(beat{"beat", m.ID})
		}
	case "ping":
		go c.ping(s, m)
	case "list":
		return c.messages.send(listed{"connections", m.ID, describe(s)})
	default:
		return fmt.Errorf("the engine says %q", m.Type)
	}
	return nil
}

// use gives a session, which may be new, what it has from now on.
func (c *control) use(s *session, m controlMessage) (err error) {
	if s == nil {
		if s, err = c.network.begin(m.Key, m.MTU); err != nil {
			return err
		}
	}
	var addresses []netip.Addr
	for _, text := range append(m.Addresses, m.LinkLocal) {
		if text == "" {
			continue
		}
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return fmt.Errorf("the engine gives the address %q", text)
		}
		addresses = append(addresses, address)
	}
	if err := s.use(m.MTU, addresses); err != nil {
		return err
	}
	s.listen(c.arrived(s))
	return nil
}

func (c *control) arrived(s *session) func(*connection, string) {
	return func(a *connection, to string) {
		s.counts.opened.Add(1)
		c.mutex.Lock()
		c.last++
		id := c.last
		c.arrivals[id] = a
		c.mutex.Unlock()
		time.AfterFunc(undecided, func() {
			if late := c.arrival(id); late != nil {
				late.reset("nobody took it")
			}
		})
		c.messages.send(arrival{"arrival", id, s.key, to, a.remote.String()})
	}
}

func (c *control) arrival(id uint64) *connection {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	a := c.arrivals[id]
	delete(c.arrivals, id)
	return a
}

func (c *control) take(id uint64, socket int) {
	a := c.arrival(id)
	if a == nil {
		closeAll([]int{socket})
		return
	}
	r, err := newRelay(a, socket)
	if err != nil {
		a.reset("no socket")
		return
	}
	go r.run(nil)
}

func (c *control) ping(s *session, m controlMessage) {
	answer := pong{Type: "pong", ID: m.ID}
	to, err := netip.ParseAddr(m.To)
	switch {
	case s == nil:
		err = noSuchSession
	case err == nil:
		ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
		defer cancel()
		var took time.Duration
		took, err = s.ping(ctx, to, m.Size)
		answer.Ms = float64(took.Microseconds()) / 1000
	}
	if err != nil {
		answer.Error = err.Error()
	}
	c.messages.send(answer)
}

func describe(s *session) []described {
	all := []described{}
	if s == nil {
		return all
	}
	s.mutex.Lock()
	connections := s.connectionsLocked()
	s.mutex.Unlock()
	for _, c := range connections {
		if len(all) == mostListed {
			break
		}
		all = append(all, c.describe())
	}
	return all
}

// count tells the engine once a second of the sessions whose counts are others than before.
func (c *control) count() {
	told := map[uint64]counted{}
	for range time.Tick(time.Second) {
		c.network.mutex.Lock()
		sessions := make([]*session, 0, len(c.network.sessions))
		for _, s := range c.network.sessions {
			sessions = append(sessions, s)
		}
		c.network.mutex.Unlock()
		now, message := make(map[uint64]counted, len(sessions)), allCounts{"counts", map[string]counted{}, heap()}
		for _, s := range sessions {
			s.mutex.Lock()
			n := counted{Connections: len(s.connections)}
			s.mutex.Unlock()
			n.In, n.Out, n.Opened, n.Refused = s.counts.in.Load(), s.counts.out.Load(), s.counts.opened.Load(), s.counts.refused.Load()
			now[s.key] = n
			if told[s.key] == n {
				continue
			}
			message.Sessions[strconv.FormatUint(s.key, 10)] = n
			if len(message.Sessions) == mostListed {
				c.messages.send(message)
				message.Sessions = map[string]counted{}
			}
		}
		told = now
		if len(message.Sessions) != 0 {
			c.messages.send(message)
		}
	}
}

// heap is how many octets all that the program keeps takes, its buffers above all.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
