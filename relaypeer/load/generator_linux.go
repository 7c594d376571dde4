package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	peers      = 16                     // sockets that play the other ends
	tick       = 250 * time.Microsecond // how often the generator looks what is due
	drain      = 300 * time.Millisecond // how long packets may be on their way at the end
	readBuffer = 4 << 20

	channelHeader = 4 // of ChannelData, RFC 8656 §12.4
)

// generator sends through allocations and counts what arrives. One goroutine uses it.
type generator struct {
	c           Config
	allocations []allocation
	peers       [peers]int
	peerAddrs   [peers]netip.AddrPort
	buf         []byte
	oob         []byte
	out         []byte

	sent, arrived int
	delay, late   histogram
	from, until   int64 // send times that count; CLOCK_REALTIME
}

func newGenerator(c Config) (*generator, error) {
	g := &generator{c: c, buf: make([]byte, 2048), oob: make([]byte, 128), out: make([]byte, channelHeader+c.Payload+3)}
	for i := range g.peers {
		g.peers[i] = -1
	}
	for i := range g.peers {
		fd, err := udpSocket()
		if err != nil {
			g.close()
			return nil, err
		}
		g.peers[i] = fd
		sa, err := unix.Getsockname(fd)
		if err != nil {
			g.close()
			return nil, os.NewSyscallError("getsockname", err)
		}
		g.peerAddrs[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
	}
	return g, nil
}

func udpSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, readBuffer)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

func (g *generator) close() {
	for _, a := range g.allocations {
		unix.Close(a.fd)
	}
	for _, fd := range g.peers {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// setUp makes the allocations.
func (g *generator) setUp(ctx context.Context, relay netip.AddrPort, username, password string) error {
	wait := unix.NsecToTimeval(int64(500 * time.Millisecond))
	for i := range g.c.Allocations {
		if err := ctx.Err(); err != nil {
			return err
		}
		fd, err := udpSocket()
		if err != nil {
			return err
		}
		a := allocation{fd: fd, peer: i % peers}
		g.allocations = append(g.allocations, a)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: relay.Addr().As4(), Port: int(relay.Port())}); err != nil {
			return os.NewSyscallError("connect", err)
		}
		a.relayed, err = allocate(fd, g.peerAddrs[a.peer], username, password)
		if err != nil {
			return fmt.Errorf("allocation %d of %d: %w", i+1, g.c.Allocations, err)
		}
		a.to = &unix.SockaddrInet4{Addr: a.relayed.Addr().As4(), Port: int(a.relayed.Port())}
		g.allocations[i] = a
		if err := unix.SetNonblock(fd, true); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	for _, fd := range g.peers {
		if err := unix.SetNonblock(fd, true); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	return nil
}

// run sends for the warm-up and the duration. mark is called when the part that counts begins and when it ends.
func (g *generator) run(ctx context.Context, mark func()) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0) // of this thread: 1 µs
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }()

	n := len(g.allocations)
	// Slot k, one packet each way, is due at start + k*gap, and allocation k mod n's.
	gap := float64(time.Second) / (g.c.Rate * float64(n))
	start := nanos()
	g.from = start + int64(g.c.Warmup)
	g.until = g.from + int64(g.c.Duration)
	begun := false
	for k := 0; ; {
		now := nanos()
		if !begun && now >= g.from {
			begun = true
			mark()
			now = nanos()
		}
		if now >= g.until {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for due := start + int64(float64(k)*gap); due <= now; due = start + int64(float64(k)*gap) {
			a := &g.allocations[k%n]
			g.send(a, due)
			g.take(a.fd, channelHeader)
			k++
		}
		g.receive()
		next := max(start+int64(float64(k)*gap), now+int64(tick))
		sleepUntil(next)
	}
	mark()
	for end := nanos() + int64(drain); nanos() < end; {
		g.receive()
		for _, a := range g.allocations {
			g.take(a.fd, channelHeader)
		}
		sleepUntil(nanos() + int64(10*time.Millisecond))
	}
	return nil
}

// send sends one packet from the client and one from the peer.
func (g *generator) send(a *allocation, due int64) {
	b := g.out
	data := b[channelHeader : channelHeader+g.c.Payload]
	b[0], b[1] = channelNumber>>8, channelNumber&0xff
	binary.BigEndian.PutUint16(b[2:], uint16(g.c.Payload))
	now := nanos()
	binary.BigEndian.PutUint64(data, uint64(now))
	counts := now >= g.from && now < g.until
	if counts {
		g.late.add(now - due)
	}
	if _, err := unix.Write(a.fd, b[:channelHeader+(g.c.Payload+3)&^3]); err == nil && counts {
		g.sent++
	}
	now = nanos()
	counts = now >= g.from && now < g.until
	binary.BigEndian.PutUint64(data, uint64(now))
	if err := unix.Sendto(g.peers[a.peer], data, unix.MSG_DONTWAIT, a.to); err == nil && counts {
		g.sent++
	}
}

// receive takes what has arrived at the peers. What clients get is taken when they send: nobody waits for a socket to become
// readable, because on the loopback interface it would be the relay that pays for that. The kernel has noted when it came.
func (g *generator) receive() {
	for _, fd := range g.peers {
		g.take(fd, 0)
	}
}

// take reads a socket until it is empty; skip octets stand before the data.
func (g *generator) take(fd, skip int) {
	for {
		n, oobn, _, _, err := recvmsg(fd, g.buf, g.oob)
		if err != nil {
			return
		}
		if n < skip+g.c.Payload {
			continue // an answer to something else
		}
		sent := int64(binary.BigEndian.Uint64(g.buf[skip:]))
		if sent < g.from || sent >= g.until {
			continue
		}
		g.arrived++
		g.delay.add(stamp(g.oob[:oobn]) - sent)
	}
}

// recvmsg is recvmsg(2) without the sender's address.
func recvmsg(fd int, b, oob []byte) (n, oobn, flags int, from unix.Sockaddr, err error) {
	iov := unix.Iovec{Base: &b[0]}
	iov.SetLen(len(b))
	h := unix.Msghdr{Iov: &iov, Control: &oob[0]}
	h.SetIovlen(1)
	h.SetControllen(len(oob))
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return 0, 0, 0, nil, errno
	}
	return int(r), int(h.Controllen), int(h.Flags), nil, nil
}

// stamp finds the kernel's receive time among the control messages.
func stamp(oob []byte) int64 {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(oob) {
			break
		}
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && n >= unix.CmsgLen(int(unsafe.Sizeof(unix.Timespec{}))) {
			ts := (*unix.Timespec)(unsafe.Pointer(&oob[unix.CmsgLen(0)]))
			return ts.Nano()
		}
		oob = oob[min(unix.CmsgSpace(n-unix.CmsgLen(0)), len(oob)):]
	}
	return nanos()
}

// nanos is CLOCK_REALTIME, which the kernel's stamps are in.
func nanos() int64 { return time.Now().UnixNano() }

func sleepUntil(t int64) {
	if d := t - nanos(); d > 0 {
		ts := unix.NsecToTimespec(d)
		_ = unix.Nanosleep(&ts, nil)
	}
}

// histogram counts durations in classes of a sixteenth of their size.
type histogram struct {
	n       int
	max     int64
	classes [64 * 16]uint32
}

func (h *histogram) add(v int64) {
	v = max(v, 0)
	h.n++
	h.max = max(h.max, v)
	h.classes[class(v)]++
}

// class numbers the classes: those below 16 have one value each.
func class(v int64) int {
	if v < 16 {
		return int(v)
	}
	e := bits.Len64(uint64(v)) - 5
	return e*16 + int(v>>e)
}

// quantile gives the upper end of the class in which q of all values lie or below.
func (h *histogram) quantile(q float64) time.Duration {
	want, seen := int(q*float64(h.n)), 0
	for c, n := range h.classes {
		if seen += int(n); n > 0 && seen > want {
			if c < 16 {
				return time.Duration(c)
			}
			e := c/16 - 1
			return time.Duration(min((int64(c-e*16)+1)<<e-1, h.max))
		}
	}
	return time.Duration(h.max)
}
