package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// clientMessage is what a client may say.
type clientMessage struct {
	Type    string  `json:"type"`
	ID      uint64  `json:"id"`
	Key     uint64  `json:"key"`
	Network string  `json:"network"`
	Source  string  `json:"source"`
	To      string  `json:"to"`
	Timeout float64 `json:"timeout"`
	First   []byte  `json:"first"`
	Idle    float64 `json:"idle"`
}

type dialled struct {
	Type  string `json:"type"`
	ID    uint64 `json:"id"`
	Local string `json:"local,omitempty"`
	Error string `json:"error,omitempty"`
}

type ended struct {
	Type string `json:"type"`
	ID   uint64 `json:"id"`
	In   uint64 `json:"in"`
	Out  uint64 `json:"out"`
	Why  string `json:"why"`
}

type traffic struct {
	Type        string               `json:"type"`
	Connections map[string][2]uint64 `json:"connections"`
}

// client is one that dials: the proxies' process. What it dialled ends with its socket.
type client struct {
	network  *network
	messages *messages
	context  context.Context
	cancel   context.CancelFunc

	mutex sync.Mutex
	dials map[uint64]*dial
}

// dial is a connection that a client asked for; before it is connected it can be cancelled.
type dial struct {
	cancel     context.CancelFunc
	connection *connection
	taken      bool
}

func serveClient(n *network, socket int) {
	messages, err := newMessages(socket)
	if err != nil {
		return
	}
	c := &client{network: n, messages: messages, dials: map[uint64]*dial{}}
	c.context, c.cancel = context.WithCancel(context.Background())
	go c.tell()
	for err == nil {
		err = c.receive()
	}
	c.cancel()
	messages.close()
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, d := range c.dials {
		if d.connection != nil {
			go d.connection.reset("the client is gone")
		}
	}
	c.dials = nil
}

func (c *client) receive() error {
	var m clientMessage
	sockets, err := c.messages.receive(&m)
	if err != nil {
		return err
	}
	if m.Type == "take" && len(sockets) == 1 {
		return c.take(m, sockets[0])
	}
	closeAll(sockets)
	switch m.Type {
	case "dial":
		return c.begin(m)
	case "drop":
		c.drop(m.ID)
		return nil
	}
	return fmt.Errorf("a client says %q", m.Type)
}

func (c *client) begin(m clientMessage) error {
	ctx, cancel := context.WithCancel(c.context)
	if m.Timeout > 0 {
		ctx, cancel = context.WithTimeout(c.context, time.Duration(m.Timeout*float64(time.Second)))
	}
	d := &dial{cancel: cancel}
	c.mutex.Lock()
	known := c.dials[m.ID] != nil
	if !known {
		c.dials[m.ID] = d
	}
	c.mutex.Unlock()
	if known {
		cancel()
		return fmt.Errorf("a client dials %d twice", m.ID)
	}
	go c.dial(ctx, d, m)
	return nil
}

func (c *client) dial(ctx context.Context, d *dial, m clientMessage) {
	defer d.cancel()
	s := c.network.session(m.Key)
	if s == nil {
		c.refuse(m.ID, noSuchSession)
		return
	}
	connection, err := c.connect(ctx, s, m)
	if err != nil {
		s.counts.refused.Add(1)
		c.refuse(m.ID, err)
		return
	}
	s.counts.opened.Add(1)
	c.mutex.Lock()
	still := c.dials[m.ID] == d
	d.connection = connection
	c.mutex.Unlock()
	if !still {
		connection.reset("dropped")
		return
	}
	answer := dialled{Type: "dialled", ID: m.ID, Local: connection.local.String()}
	if connection.network == "tcp" {
		c.messages.send(answer)
		return
	}
	datagrams, theirs, err := newDatagrams(connection)
	if err != nil {
		connection.reset("too many")
		c.refuse(m.ID, tooMany)
		return
	}
	c.messages.send(answer, theirs)
	closeAll([]int{theirs})
	c.end(m.ID, connection, datagrams.run())
}

func (c *client) connect(ctx context.Context, s *session, m clientMessage) (*connection, error) {
	source, err := netip.ParseAddr(m.Source)
	if err != nil {
		return nil, noAddress
	}
	var to netip.AddrPort
	if m.To != "" || m.Network != "udp" {
		if to, err = netip.ParseAddrPort(m.To); err != nil {
			return nil, unreachable
		}
	}
	if m.Network != "udp" && m.Network != "tcp" {
		return nil, unreachable
	}
	return s.dial(ctx, m.Network, source, to)
}

func (c *client) refuse(id uint64, err error) {
	c.forget(id)
	c.messages.send(dialled{Type: "dialled", ID: id, Error: err.Error()})
}

func (c *client) forget(id uint64) *dial {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	d := c.dials[id]
	delete(c.dials, id)
	return d
}

func (c *client) end(id uint64, of *connection, why string) {
	c.forget(id)
	c.messages.send(ended{"ended", id, of.in.Load(), of.out.Load(), why})
}

func (c *client) drop(id uint64) {
	d := c.forget(id)
	if d == nil {
		return
	}
	d.cancel()
	if d.connection != nil {
		d.connection.reset("dropped")
	}
}

// take copies between a connection and the client's socket. One that has ended meanwhile closes the socket.
func (c *client) take(m clientMessage, socket int) error {
	c.mutex.Lock()
	d := c.dials[m.ID]
	usable := d != nil && d.connection != nil && d.connection.network == "tcp" && !d.taken
	if usable {
		d.taken = true
	}
	c.mutex.Unlock()
	if !usable {
		closeAll([]int{socket})
		return nil
	}
	go func() {
		why := "no socket"
		r, err := newRelay(d.connection, socket)
		if err == nil {
			stop := d.connection.resetWhenIdle(time.Duration(m.Idle * float64(time.Second)))
			why = r.run(m.First)
			stop()
		} else {
			d.connection.reset(why)
		}
		c.end(m.ID, d.connection, why)
	}()
	return nil
}

// tell says once a second what the connections have carried that carried something.
func (c *client) tell() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	told := map[uint64][2]uint64{}
	for {
		select {
		case <-ticker.C:
		case <-c.context.Done():
			return
		}
		now := map[uint64][2]uint64{}
		c.mutex.Lock()
		for id, d := range c.dials {
			if d.connection != nil {
				now[id] = [2]uint64{d.connection.in.Load(), d.connection.out.Load()}
			}
		}
		c.mutex.Unlock()
		message := traffic{"traffic", map[string][2]uint64{}}
		for id, octets := range now {
			if octets == told[id] {
				continue
			}
			message.Connections[strconv.FormatUint(id, 10)] = octets
			if len(message.Connections) == mostListed {
				c.messages.send(message)
				message.Connections = map[string][2]uint64{}
			}
		}
		if len(message.Connections) != 0 {
			c.messages.send(message)
		}
		told = now
	}
}
