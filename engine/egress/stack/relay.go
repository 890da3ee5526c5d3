package main

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// mostAtOnce is what one write to netstack takes: a view of 64 KB holds it without growing.
const mostAtOnce = 63 << 10

var (
	errFull   = errors.New("the socket is full")
	errEnded  = errors.New("the other end has closed")
	errGone   = errors.New("reset by the client")
	errReset  = errors.New("reset by the far end")
	errCut    = errors.New("cut")
	errSilent = errors.New("the far end doesn't answer any more")
)

// relay copies between a TCP connection and a stream socket until both directions have ended; the socket is closed then.
//
// Netstack's memory is written to the socket, and filled from it, without a copy between; but short segments that wait
// together are copied together first, so that one write wakes the reader once.
type relay struct {
	connection *connection
	file       *os.File
	socket     syscall.RawConn
	failed     bool    // the socket takes nothing any more
	gathered   []byte  // what is to be written next
	space      *[]byte // where that is, while it is anywhere
}

// shortSegment is one that is gathered, into so many octets at most.
const (
	shortSegment = 32 << 10
	mostGathered = 128 << 10
)

var gatherings = sync.Pool{New: func() any { space := make([]byte, mostGathered); return &space }}

func newRelay(c *connection, socket int) (*relay, error) {
	if err := unix.SetNonblock(socket, true); err != nil {
		unix.Close(socket)
		return nil, err
	}
	file := os.NewFile(uintptr(socket), "client")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	r := &relay{connection: c, file: file, socket: raw}
	r.resetAtClose(true)
	return r, nil
}

// resetAtClose says how the socket is closed, by the kernel too if this program is killed: nobody is to take that for the end.
func (r *relay) resetAtClose(reset bool) {
	linger := unix.Linger{}
	if reset {
		linger.Onoff = 1
	}
	r.socket.Control(func(socket uintptr) { unix.SetsockoptLinger(int(socket), unix.SOL_SOCKET, unix.SO_LINGER, &linger) })
}

// run returns why it ended: "closed" if both sides did so in order.
func (r *relay) run(first []byte) string {
	defer r.file.Close()
	uploaded := make(chan error, 1)
	go func() { uploaded <- r.giveUp(r.upload(first)) }()
	err := r.giveUp(r.download())
	if other := <-uploaded; err == nil {
		err = other
	}
	if err == nil {
		r.resetAtClose(false)
		r.connection.close("closed")
	}
	return r.connection.why
}

// giveUp ends both directions when one of them failed: with a reset on both sides.
func (r *relay) giveUp(err error) error {
	if err == nil {
		return nil
	}
	r.connection.reset(err.Error())
	r.file.Close()
	return err
}

// Write takes octets from netstack; it never waits, for netstack's endpoint is locked.
func (r *relay) Write(octets []byte) (int, error) {
	if len(octets) < shortSegment {
		if r.space == nil {
			r.space = gatherings.Get().(*[]byte)
			r.gathered = (*r.space)[:0]
		}
		if len(r.gathered)+len(octets) <= cap(r.gathered) {
			r.gathered = append(r.gathered, octets...)
			return len(octets), nil
		}
	}
	if err := r.flush(); err != nil {
		return 0, err
	}
	return r.send(octets)
}

// flush writes what was gathered.
func (r *relay) flush() error {
	if r.space == nil {
		return nil
	}
	n, err := r.send(r.gathered)
	r.gathered = r.gathered[n:]
	if len(r.gathered) == 0 {
		gatherings.Put(r.space)
		r.space, r.gathered = nil, nil
	}
	return err
}

func (r *relay) send(octets []byte) (int, error) {
	var n int
	var err error
	failure := r.socket.Control(func(socket uintptr) {
		n, err = send(int(socket), octets)
	})
	switch {
	case err == unix.EAGAIN:
		return 0, errFull
	case failure != nil || err != nil:
		r.failed = true
		return 0, errGone
	case n < len(octets):
		return n, errFull
	}
	return n, nil
}

func (r *relay) download() error {
	c := r.connection
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for {
		result, failure := c.endpoint.Read(r, tcpip.ReadOptions{})
		c.addIn(result.Count)
		for r.flush() != nil {
			if r.failed {
				return errGone
			}
			if err := r.waitToWrite(); err != nil {
				return err
			}
		}
		switch failure.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			select {
			case <-ready:
			case <-c.cut:
				return errCut
			}
		case *tcpip.ErrBadBuffer:
			if r.failed {
				return errGone
			}
			if err := r.waitToWrite(); err != nil {
				return err
			}
		case *tcpip.ErrClosedForReceive:
			var err error
			r.socket.Control(func(socket uintptr) { err = unix.Shutdown(int(socket), unix.SHUT_WR) })
			if err != nil {
				return errGone
			}
			return nil
		case *tcpip.ErrTimeout:
			return errSilent
		default:
			return errReset
		}
	}
}

// waitToWrite waits until the socket takes more.
func (r *relay) waitToWrite() error {
	err := r.socket.Write(func(socket uintptr) bool {
		return writable(int(socket))
	})
	if err != nil {
		return errGone
	}
	return nil
}

// fromSocket is what netstack reads a socket's octets with.
type fromSocket struct {
	socket    syscall.RawConn
	available int
}

func (f *fromSocket) Len() int { return f.available }

func (f *fromSocket) Read(space []byte) (n int, err error) {
	if len(space) == 0 {
		return 0, nil
	}
	failure := f.socket.Control(func(socket uintptr) {
		n, err = receive(int(socket), space)
	})
	if failure != nil || err != nil || n <= 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *relay) upload(first []byte) error {
	c := r.connection
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for len(first) != 0 {
		n, err := c.write(&fromOctets{first}, ready)
		if err != nil {
			return err
		}
		first = first[n:]
	}
	from := &fromSocket{socket: r.socket}
	for {
		available, err := r.waitToRead()
		switch err {
		case nil:
		case errEnded:
			if failure := c.endpoint.Shutdown(tcpip.ShutdownWrite); failure != nil {
				return errReset
			}
			return nil
		default:
			return err
		}
		if from.available = available; available > mostAtOnce {
			from.available = mostAtOnce
		}
		if _, err := c.write(from, ready); err != nil {
			return err
		}
	}
}

// fromOctets is octets as netstack takes them.
type fromOctets struct{ octets []byte }

func (f *fromOctets) Len() int { return len(f.octets) }

func (f *fromOctets) Read(space []byte) (int, error) {
	n := copy(space, f.octets)
	f.octets = f.octets[n:]
	if n == 0 && len(space) != 0 {
		return 0, io.EOF
	}
	return n, nil
}

// write waits until netstack has taken something.
func (c *connection) write(from tcpip.Payloader, ready chan struct{}) (int, error) {
	for {
		n, failure := c.endpoint.Write(from, tcpip.WriteOptions{})
		switch failure.(type) {
		case nil:
			c.addOut(int(n))
			return int(n), nil
		case *tcpip.ErrWouldBlock:
			select {
			case <-ready:
			case <-c.cut:
				return 0, errCut
			}
		case *tcpip.ErrTimeout:
			return 0, errSilent
		default:
			return 0, errReset
		}
	}
}

// waitToRead waits for octets in the socket and says how many there are.
func (r *relay) waitToRead() (available int, failure error) {
	err := r.socket.Read(func(socket uintptr) bool {
		available, failure = received(int(socket))
		if failure != nil || available > 0 {
			return true
		}
		var octet [1]byte
		n, err := peek(int(socket), octet[:])
		switch {
		case err == unix.EAGAIN:
			return false
		case err != nil:
			failure = errGone
		case n == 0:
			failure = errEnded
		default: // come meanwhile
			available, failure = received(int(socket))
		}
		return true
	})
	if err != nil {
		return 0, errGone
	}
	return available, failure
}
