package flow

import (
	"errors"
	"net"
	"syscall"
)

// udpErrors is the queue of a socket's datagrams that came back: the kernel keeps each ICMP error with the address that the
// datagram was for. It reports each also, out of the blue, as the result of the next read or write on the socket,
// whatever address that is for; told knows those, so that nobody takes them for his own.
//
// A nil udpErrors is a socket without.
type udpErrors struct {
	raw  syscall.RawConn
	wake chan struct{} // capacity 1: something is in the queue
}

// errorRate bounds how many of them a handler hears of in a second.
const errorRate = 500

// watch starts telling the handler of addresses where nobody listens, if the system says so and the handler wants to hear.
func (u *UDP) watch() {
	h, ok := u.g.h.(UnreachableHandler)
	if !ok || u.fast == nil {
		return
	}
	if u.errs = newUDPErrors(u.fast); u.errs == nil {
		return
	}
	rate := newBucket(errorRate)
	u.wg.Add(1)
	go func() {
		defer u.wg.Done()
		for {
			select {
			case <-u.stop:
				return
			case <-u.errs.wake:
			}
			for {
				to, err, ok := u.errs.next()
				if !ok {
					break
				}
				if err != nil && rate.take() {
					u.g.unreachable(h, u.To(to), err)
				}
			}
		}
	}()
}

// told reports that err, of a read or a write, is about an earlier datagram.
func (e *udpErrors) told(err error) bool {
	if e == nil || err == nil || errors.Is(err, net.ErrClosed) || !aboutDatagram(err) {
		return false
	}
	select {
	case e.wake <- struct{}{}:
	default:
	}
	return true
}
