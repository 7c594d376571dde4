package datapath

import (
	"errors"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// waiter waits for an epoll set, and rests, in system calls of its own: the runtime's timers count in milliseconds when nothing
// else goes on, and its poller costs a thread's wake-up for each batch.
//
// To the runtime, a goroutine that has not been scheduled for 10 ms and is found in a system call has lost its processor, and a
// thread then looks every 20 µs for more of that kind: a twentieth of all processor time of a busy relay. So rest yields every
// yieldEvery; then the processor is taken away only when somebody else has use for it. To yield each time would cost as
// much: it wakes a thread to look for work.
type waiter struct {
	set, wake int
	yielded   time.Time
}

const yieldEvery = 5 * time.Millisecond

func newWaiter() (*waiter, error) {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeSlot})
		if err == nil {
			return &waiter{set: set, wake: wake}, nil
		}
		_ = unix.Close(wake)
	}
	_ = unix.Close(set)
	return nil, os.NewSyscallError("eventfd, epoll_ctl", err)
}

// wakeSlot is told of as ready after awake, for good.
const wakeSlot = -1

// wait waits until there are events, and gives their number; 0 now and then.
func (w *waiter) wait(events []unix.EpollEvent) (int, error) {
	// Mostly there are some, and then the runtime need not be told of a call that may wait.
	if n, err := epollNow(w.set, events); n > 0 || err != nil && err != unix.EINTR {
		return n, err
	}
	n, err := unix.EpollWait(w.set, events, -1)
	if err == unix.EINTR {
		return 0, nil
	}
	return n, err
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

// awake ends the waiting, once and for all.
func (w *waiter) awake() error {
	_, err := unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 1}) // not zero in either byte order
	return os.NewSyscallError("write", err)
}

// close is for when nobody waits.
func (w *waiter) close() error { return errors.Join(unix.Close(w.set), unix.Close(w.wake)) }
