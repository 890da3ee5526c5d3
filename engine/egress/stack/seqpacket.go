package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	largestMessage = 256 << 10
	mostSockets    = 16
)

// messages speaks JSON objects, one a message, with sockets beside them.
type messages struct {
	socket *net.UnixConn
	buffer []byte
	beside []byte

	mutex sync.Mutex
}

// newMessages takes the socket over.
func newMessages(socket int) (*messages, error) {
	file := os.NewFile(uintptr(socket), "messages")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("not a socket of the family AF_UNIX")
	}
	return &messages{socket: unixConn, beside: make([]byte, unix.CmsgSpace(4*mostSockets))}, nil
}

// receive decodes the next message into what and returns the sockets that came with it; io.EOF at the end.
func (m *messages) receive(what any) ([]int, error) {
	if m.buffer == nil {
		m.buffer = make([]byte, 4<<10)
	}
	length, err := waitForLength(m.socket)
	if errors.Is(err, unix.ECONNRESET) {
		err = io.EOF // closed there with messages unread
	}
	if err != nil {
		return nil, err
	}
	if length > largestMessage {
		length = largestMessage
	}
	if length > len(m.buffer) {
		m.buffer = make([]byte, length)
	}
	n, besides, flags, _, err := m.socket.ReadMsgUnix(m.buffer, m.beside)
	if err != nil {
		return nil, err
	}
	sockets, err := socketsOf(m.beside[:besides])
	switch {
	case err != nil:
	case n == 0 && len(sockets) == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = fmt.Errorf("a message of more than %d octets, or more than %d sockets", largestMessage, mostSockets)
	default:
		err = json.Unmarshal(m.buffer[:n], what)
	}
	if err != nil {
		closeAll(sockets)
		return nil, err
	}
	return sockets, nil
}

// waitForLength tells how long a socket's next message is, so that a client that says little costs little.
func waitForLength(socket syscall.Conn) (length int, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failure error
	err = raw.Read(func(socket uintptr) bool {
		var nothing [1]byte
		length, _, failure = unix.Recvfrom(int(socket), nothing[:], unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		return failure != unix.EAGAIN && failure != unix.EINTR
	})
	if err == nil {
		err = failure
	}
	return length, err
}

func socketsOf(beside []byte) (sockets []int, err error) {
	parts, err := unix.ParseSocketControlMessage(beside)
	if err != nil {
		return nil, err
	}
	for i := range parts {
		if more, err := unix.ParseUnixRights(&parts[i]); err == nil {
			sockets = append(sockets, more...)
		}
	}
	return sockets, nil
}

func closeAll(sockets []int) {
	for _, socket := range sockets {
		unix.Close(socket)
	}
}

// send waits while the other end doesn't read. The sockets stay the caller's.
func (m *messages) send(what any, sockets ...int) error {
	octets, err := json.Marshal(what)
	if err != nil {
		return err
	}
	var beside []byte
	if len(sockets) != 0 {
		beside = unix.UnixRights(sockets...)
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	_, _, err = m.socket.WriteMsgUnix(octets, beside, nil)
	return err
}

func (m *messages) close() { m.socket.Close() }
