package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ductStart    = 4096
	ductRecord   = 8
	ductSkip     = 1<<32 - 1
	smallestDuct = 256 << 10
	cacheLine    = 64
)

var errNonsense = errors.New("the data path says what makes no sense")

// indices of one direction, on cache lines of their own.
type indices struct {
	head     uint32
	_        [cacheLine - 4]byte
	tail     uint32
	_        [cacheLine - 4]byte
	sleeping uint32
	_        [cacheLine - 4]byte
}

// duct is memory that a worker of the data path has too, with a ring of packets for each direction: see duct.h.
type duct struct {
	memory            []byte
	size              uint32 // octets of each ring, a power of two
	in, out           *indices
	arriving, leaving []byte
	tail              uint32        // of in, ours
	bell              *os.File      // a socket that rings when we slept and there is something
	steps             atomic.Uint64 // odd while a packet is delivered
	seen              uint64        // of steps, by moves

	mutex  sync.Mutex // over what follows
	head   uint32     // of out, ours
	ring   int        // the bell's descriptor, by which the worker is woken
	puts   uint32     // packets put in so far
	since  uint32     // of those, when the turn of ringLater began, if one is on its way
	turn   bool       // whether one is
	alone  bool       // in the last one nobody else put anything in
	due    chan bool  // begins one
	closed bool
}

// newDuct takes the descriptors over.
func newDuct(memory, bell int) (*duct, error) {
	defer unix.Close(memory)
	mapped, err := mapDuct(memory)
	if err == nil {
		err = unix.SetNonblock(bell, true)
	}
	if err != nil {
		unix.Close(bell)
		return nil, fmt.Errorf("the memory of the data path: %w", err)
	}
	both, size := (*[2]indices)(unsafe.Pointer(&mapped[0])), (len(mapped)-ductStart)/2
	d := &duct{
		memory: mapped, size: uint32(size), in: &both[0], out: &both[1],
		arriving: mapped[ductStart : ductStart+size], leaving: mapped[ductStart+size:],
		bell: os.NewFile(uintptr(bell), "bell"), ring: bell, due: make(chan bool, 1),
		alone: true,
	}
	go d.ringLater()
	return d, nil
}

func mapDuct(memory int) ([]byte, error) {
	var found unix.Stat_t
	if err := unix.Fstat(memory, &found); err != nil {
		return nil, err
	}
	size := (found.Size - ductStart) / 2
	if size < smallestDuct || size > 1<<30 || size&(size-1) != 0 {
		return nil, fmt.Errorf("it has %d octets", found.Size)
	}
	return unix.Mmap(memory, 0, ductStart+2*int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// close has run return, and nothing written any more.
func (d *duct) close() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if !d.closed {
		d.closed = true
		close(d.due)
		d.bell.Close()
	}
}

func ductNeeds(length uint32) uint32 {
	return (ductRecord + length + ductRecord - 1) &^ (ductRecord - 1)
}

// mark puts a record's length and slot in front of it.
func mark(at []byte, length, slot uint32) {
	*(*[2]uint32)(unsafe.Pointer(&at[0])) = [2]uint32{length, slot}
}

// put writes a packet that stands in parts; false if there is no room. The mutex is held.
func (d *duct) put(slot uint32, length int, parts ...[]byte) bool {
	used := d.waiting()
	place, need := d.head%d.size, ductNeeds(uint32(length))
	whole := need
	if need > d.size-place {
		whole += d.size - place
	}
	if used > d.size || whole > d.size-used {
		return false
	}
	if whole > need {
		mark(d.leaving[place:], ductSkip, 0)
		place = 0
	}
	mark(d.leaving[place:], uint32(length), slot)
	at := d.leaving[place+ductRecord:]
	for _, part := range parts {
		at = at[copy(at, part):]
	}
	d.head += whole
	d.puts++
	atomic.StoreUint32(&d.out.head, d.head)
	return true
}

// The first wait for room, and the longest one: each is twice as long as the one before.
const (
	firstWait   = 50 * time.Microsecond
	longestWait = firstWait << 7
)

// putInTime is put, where there is room soon. Netstack has nothing that keeps a sender to what its link takes, and
// would find out by what is lost, connection by connection. The mutex is held, but while it waits.
func (d *duct) putInTime(slot uint32, length int, parts ...[]byte) bool {
	for wait := firstWait; !d.closed && wait <= longestWait; wait *= 2 {
		if d.put(slot, length, parts...) {
			return true
		}
		d.wake()
		d.mutex.Unlock()
		time.Sleep(wait)
		d.mutex.Lock()
	}
	return false
}

// manyWaiting is from how many octets on a worker that sleeps is woken at once.
const manyWaiting = 32 << 10

// tell has the worker woken if it sleeps: at once if there is much for it, else when all that can run has had its turn, as
// others may have packets then too, and to wake it costs more than a short one does. But who was alone the last time has
// nobody to wait for, and waits for the answer. The mutex is held.
func (d *duct) tell() {
	if d.closed || atomic.LoadUint32(&d.out.sleeping) == 0 { // who sleeps later sees the head
		return
	}
	much := d.waiting() >= manyWaiting
	if much || d.alone {
		d.wake()
	}
	if !much && !d.turn {
		d.turn, d.since = true, d.puts
		d.due <- true
	}
}

// waiting is how many octets the worker has yet to take. The mutex is held.
func (d *duct) waiting() uint32 { return d.head - atomic.LoadUint32(&d.out.tail) }

// ringLater wakes the worker for those who leave that to it, until the duct is closed.
func (d *duct) ringLater() {
	for range d.due {
		runtime.Gosched()
		d.mutex.Lock()
		d.turn, d.alone = false, d.puts == d.since
		if !d.closed && d.waiting() != 0 {
			d.wake()
		}
		d.mutex.Unlock()
	}
}

var rung = []byte{1}

func (d *duct) wake() {
	if atomic.SwapUint32(&d.out.sleeping, 0) != 0 {
		send(d.ring, rung)
	}
}

// take gives the next packet where it lies, and how many octets to go on by afterwards; none if there is none.
func (d *duct) take() (slot uint32, packet []byte, whole uint32, err error) {
	there := atomic.LoadUint32(&d.in.head) - d.tail
	if there == 0 {
		return 0, nil, 0, nil
	}
	place := d.tail % d.size
	if there > d.size || there%ductRecord != 0 {
		return 0, nil, 0, errNonsense
	}
	words := *(*[2]uint32)(unsafe.Pointer(&d.arriving[place]))
	if words[0] == ductSkip {
		whole = d.size - place
		if there <= whole {
			return 0, nil, 0, errNonsense
		}
		place = 0
		words = *(*[2]uint32)(unsafe.Pointer(&d.arriving[0]))
	}
	if words[0] > d.size {
		return 0, nil, 0, errNonsense
	}
	need := ductNeeds(words[0])
	if need > there-whole || need > d.size-place {
		return 0, nil, 0, errNonsense
	}
	start := place + ductRecord
	return words[1], d.arriving[start : start+words[0]], whole + need, nil
}

// moves tells whether no packet is delivered still that was when this was asked before, and packets can be put in.
func (d *duct) moves() bool {
	d.mutex.Lock()
	d.mutex.Unlock()
	before := d.seen
	d.seen = d.steps.Load()
	return d.seen%2 == 0 || d.seen != before
}

// atOnce is how many packets are delivered before others have their turn.
const atOnce = 64

// end closes the duct if nobody has, and lets go of its memory.
func (d *duct) end() {
	d.close()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	unix.Munmap(d.memory)
}

// longBusy is for how long packets may come without a pause until who waits for something else must be seen to.
const longBusy = 10 * time.Millisecond

// run delivers what comes until the duct is closed, at either end; packets that follow each other come as one, in parts.
func (d *duct) run(deliver func(slot uint32, first []byte, more ...[]byte)) error {
	defer d.end()
	paused, waiting := time.Now(), newJoiner(deliver)
	for {
		n, from := 0, d.tail
		for ; n < atOnce && d.tail-from < d.size/4; n++ {
			slot, packet, whole, err := d.take()
			if err != nil {
				return err
			}
			if whole == 0 {
				break
			}
			d.steps.Add(1)
			waiting.add(slot, packet)
			d.steps.Add(1)
			d.tail += whole
		}
		if n != 0 {
			d.steps.Add(1)
			waiting.flush()
			d.steps.Add(1)
			atomic.StoreUint32(&d.in.tail, d.tail)
			if time.Since(paused) > longBusy {
				rouse()
				paused = time.Now()
			}
			runtime.Gosched()
			continue
		}
		atomic.SwapUint32(&d.in.sleeping, 1)
		if atomic.LoadUint32(&d.in.head) != d.tail {
			atomic.StoreUint32(&d.in.sleeping, 0)
			continue
		}
		rang, waited := d.hear()
		if !rang {
			return nil // closed, so that nobody writes any more
		}
		if waited {
			paused = time.Now()
		}
	}
}

// hear waits until the bell rings; it never will again if it didn't.
func (d *duct) hear() (rang, waited bool) {
	raw, err := d.bell.SyscallConn()
	if err != nil {
		return false, false
	}
	err = raw.Read(func(bell uintptr) bool {
		var heard [64]byte
		n, err := receive(int(bell), heard[:])
		rang = n > 0
		waited = waited || err == unix.EAGAIN
		return err != unix.EAGAIN
	})
	return rang && err == nil, waited
}
