package datapath

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	h unix.Msghdr
	n uint32
}

// headroom is left free in front of what is read, for the header of a ChannelData message.
const headroom = channelHeader

// inbox is room for a batch of datagrams that are read.
type inbox struct {
	hdrs  []mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6
	slots [][]byte // headroom, then what was read
}

// newInbox makes room for n datagrams of up to MaxDatagram octets, and one to see that it was more.
func newInbox(n int) *inbox {
	const slot = (headroom + MaxDatagram + 1 + 63) &^ 63
	b := &inbox{hdrs: make([]mmsghdr, n), iovs: make([]unix.Iovec, n), names: make([]unix.RawSockaddrInet6, n), slots: make([][]byte, n)}
	all := make([]byte, n*slot)
	for i := range n {
		b.slots[i] = all[i*slot : (i+1)*slot : (i+1)*slot]
		b.iovs[i].Base = &b.slots[i][headroom]
		b.iovs[i].SetLen(MaxDatagram + 1)
		h := &b.hdrs[i].h
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
	}
	return b
}

// read reads up to n datagrams into the slots from first on, and gives their number; 0 if there are none, or the socket complains.
func (b *inbox) read(fd, first, n int) int {
	if n == 1 { // a sixth cheaper
		size := uint32(unix.SizeofSockaddrInet6)
		got, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(b.iovs[first].Base)), MaxDatagram+1, unix.MSG_DONTWAIT,
			uintptr(unsafe.Pointer(&b.names[first])), uintptr(unsafe.Pointer(&size)))
		if errno != 0 {
			return 0
		}
		b.hdrs[first].n = uint32(got)
		return 1
	}
	hdrs := b.hdrs[first : first+n]
	for i := range hdrs {
		hdrs[i].h.Namelen = unix.SizeofSockaddrInet6
	}
	// Raw: it does not wait, so the scheduler need not know.
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdrs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(got)
}

// data gives datagram i.
func (b *inbox) data(i int) []byte { return b.slots[i][headroom : headroom+int(b.hdrs[i].n)] }

// outbox is a batch of datagrams to be written to one socket. What is put in must stay as it is until send.
type outbox struct {
	hdrs []mmsghdr
	iovs []unix.Iovec
	n    int
}

func newOutbox(n int) *outbox {
	b := &outbox{hdrs: make([]mmsghdr, n), iovs: make([]unix.Iovec, n)}
	for i := range n {
		b.hdrs[i].h.Iov = &b.iovs[i]
		b.hdrs[i].h.SetIovlen(1)
	}
	return b
}

// put adds a datagram, of at least one octet or none.
func (b *outbox) put(data []byte, to *sockaddr) {
	iov := &b.iovs[b.n]
	iov.Base = unsafe.SliceData(data)
	iov.SetLen(len(data))
	h := &b.hdrs[b.n].h
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&to.raw)), to.size
	b.n++
}

// send writes all and empties the box; it gives the number of those that the kernel did not take.
func (b *outbox) send(fd int) (lost int) {
	if b.n == 1 {
		h, iov := &b.hdrs[0].h, &b.iovs[0]
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(iov.Base)), uintptr(iov.Len), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL,
			uintptr(unsafe.Pointer(h.Name)), uintptr(h.Namelen))
		b.n = 0
		if errno != 0 {
			return 1
		}
		return 0
	}
	for at := 0; at < b.n; {
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs[at])), uintptr(b.n-at), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			at += int(sent)
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS: // no room for any
			lost += b.n - at
			at = b.n
		default: // this one cannot be sent; the others may
			lost++
			at++
		}
	}
	b.n = 0
	return lost
}

// epollNow gives the events that there are, without waiting.
func epollNow(set int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(set), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
