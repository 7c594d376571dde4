package datapath

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// waiter waits for an epoll set, and rests. It waits by way of the runtime's poller, the goroutine parked, and rests in a system
// call of its own, because the runtime's timers count in milliseconds when nothing else goes on.
//
// Which of the two is used when matters. To the runtime, a goroutine that has not been scheduled for 10 ms and is found in a system
// call has lost its processor, and a thread then looks every 20 µs for more of that kind: a relay of one call that waited for
// the set in a system call used 5 % of a processor. So rest is for busy times, and yields every yieldEvery; then the processor is taken
// away only when somebody else has use for it. To yield each time would cost too much: it wakes a thread to look for work.
//
// The other way round, a set that the runtime's poller looks at all the time wakes a thread of the runtime's for every packet
// that comes while the relay rests. So the poller looks at an outer set, in which the one with the sockets is armed for one
// event only, when there is really nothing to do.
type waiter struct {
	set     int // the sockets'
	outer   *os.File
	conn    syscall.RawConn // outer's
	yielded time.Time
}

const yieldEvery = 8 * time.Millisecond

func newWaiter() (*waiter, error) {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		_ = unix.Close(set)
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	_ = unix.SetNonblock(fd, true) // so that os.NewFile takes it for one to be polled; SetReadDeadline tells
	w := &waiter{set: set, outer: os.NewFile(uintptr(fd), "epoll")}
	if err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, set, &unix.EpollEvent{Events: unix.EPOLLONESHOT}); err != nil {
		err = os.NewSyscallError("epoll_ctl", err)
	} else if err = w.outer.SetReadDeadline(time.Time{}); err != nil {
		err = fmt.Errorf("the runtime does not poll an epoll set: %w", err)
	} else {
		w.conn, err = w.outer.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, w.end(), w.free())
	}
	return w, nil
}

// look gives the number of events that there are.
func (w *waiter) look(events []unix.EpollEvent) int {
	n, _ := epollNow(w.set, events)
	return n
}

// wait waits until there are events, and gives their number. The error comes after end.
func (w *waiter) wait(events []unix.EpollEvent) (n int, err error) {
	var failed error
	err = w.conn.Read(func(outer uintptr) bool {
		failed = unix.EpollCtl(int(outer), unix.EPOLL_CTL_MOD, w.set, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT})
		n, _ = epollNow(w.set, events) // after it is armed, so that nothing is missed
		if n > 0 {
			var told [1]unix.EpollEvent
			_, _ = epollNow(int(outer), told[:]) // which takes the one event: armed no more
		}
		return n > 0 || failed != nil
	})
	return n, errors.Join(err, os.NewSyscallError("epoll_ctl", failed))
}

// rest waits for a time or less, from now on.
func (w *waiter) rest(now time.Time, d time.Duration) {
	if now.Sub(w.yielded) >= yieldEvery {
		w.yielded = now
		runtime.Gosched()
	}
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}

// end ends the waiting, once and for all; a busy loop does not notice.
func (w *waiter) end() error { return w.outer.Close() }

// free is for when nobody waits any more.
func (w *waiter) free() error { return unix.Close(w.set) }
