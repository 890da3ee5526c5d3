package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls that never wait, made without the word of Go's scheduler.
//
// While nothing can run the runtime's monitor sleeps; the first call that the scheduler knows of wakes it, and then it looks
// every 20 us whether one takes long. With one connection, which has nothing to do after every few packets, that was a
// twelfth of the program's time. Who is busy for longer needs the monitor, and calls it: see rouse.

func send(socket int, octets []byte) (int, error) {
	return transfer(unix.SYS_SENDTO, socket, octets, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func receive(socket int, space []byte) (int, error) {
	return transfer(unix.SYS_RECVFROM, socket, space, unix.MSG_DONTWAIT)
}

// peek is receive, after which what came is there still.
func peek(socket int, space []byte) (int, error) {
	return transfer(unix.SYS_RECVFROM, socket, space, unix.MSG_DONTWAIT|unix.MSG_PEEK)
}

func transfer(call uintptr, socket int, octets []byte, flags uintptr) (int, error) {
	if len(octets) == 0 {
		return 0, nil
	}
	for {
		n, _, err := unix.RawSyscall6(call, uintptr(socket), uintptr(unsafe.Pointer(&octets[0])), uintptr(len(octets)), flags, 0, 0)
		switch err {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, err
		}
	}
}

// received is how many octets can be received at once.
func received(socket int) (int, error) {
	var n int32
	if _, _, err := unix.RawSyscall(unix.SYS_IOCTL, uintptr(socket), unix.TIOCINQ, uintptr(unsafe.Pointer(&n))); err != 0 {
		return 0, err
	}
	return int(n), nil
}

// writable says whether a send wouldn't wait; it may fail.
func writable(socket int) bool {
	poll := unix.PollFd{Fd: int32(socket), Events: unix.POLLOUT}
	var now unix.Timespec
	n, _, _ := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n == 1
}

// rouse wakes the monitor: only it looks at other sockets while something can run without a pause.
func rouse() { unix.Syscall(unix.SYS_GETPID, 0, 0, 0) }
