package main

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// atOnce is how many packets of one session are taken before the next session's turn.
const atOnce = 64

// poller waits for the packets of many sessions in one goroutine; a session belongs to one poller, which keeps its packets in order.
type poller struct {
	epoll int
	file  *os.File

	mutex sync.Mutex
	links map[int32]*polled
}

type polled struct {
	link  *link
	ended func()
}

func newPoller() (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	// The runtime waits for it as for any descriptor that doesn't block: no thread sleeps in the kernel.
	if err := unix.SetNonblock(epoll, true); err != nil {
		return nil, err
	}
	return &poller{epoll: epoll, file: os.NewFile(uintptr(epoll), "epoll"), links: map[int32]*polled{}}, nil
}

// add has packets of l delivered from now on; ended is called once, when its other end is closed.
func (p *poller) add(l *link, ended func()) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	fd := int32(l.socket)
	p.links[fd] = &polled{l, ended}
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, l.socket, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: fd})
}

// remove forgets l and closes its socket.
func (p *poller) remove(l *link) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	fd := int32(l.socket)
	if of, ok := p.links[fd]; ok && of.link == l {
		delete(p.links, fd)
		unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, l.socket, nil)
	}
	l.close()
}

// run delivers until the program ends.
func (p *poller) run() error {
	waiting, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var events [128]unix.EpollEvent
	in := newInbound()
	for {
		ready := 0
		var failure error
		err := waiting.Read(func(uintptr) bool {
			ready, failure = unix.EpollWait(p.epoll, events[:], 0)
			return ready > 0 || failure != nil && failure != unix.EINTR
		})
		if err != nil {
			return err
		}
		if failure != nil {
			return failure
		}
		for _, event := range events[:ready] {
			p.mutex.Lock()
			of := p.links[event.Fd]
			p.mutex.Unlock()
			if of != nil {
				p.serve(of, in)
			}
		}
	}
}

func (p *poller) serve(of *polled, in *inbound) {
	for range [atOnce]struct{}{} {
		switch of.link.receive(in) {
		case receivedNothing:
			return
		case receivedEnd:
			p.mutex.Lock()
			known := p.links[int32(of.link.socket)] == of
			if known {
				delete(p.links, int32(of.link.socket))
				unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, of.link.socket, nil)
			}
			p.mutex.Unlock()
			if known {
				go of.ended()
			}
			return
		}
	}
}
