package flow

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"p2psip/interwork/message"
)

// maxDatagram is the largest UDP payload over IPv4.
const maxDatagram = 65507

// stunRate bounds the answers to STUN keep-alives per second and socket: a few thousand phones at one in 30 s.
const stunRate = 200

// recentFlows is how many flows a socket keeps at hand: a phone sends several messages in a row.
const recentFlows = 256

// UDP is one datagram socket and its reader.
type UDP struct {
	pc    net.PacketConn
	fast  *net.UDPConn // pc if it is one: spares an allocation a datagram
	local Addr
	g     *guard
	stun  *bucket
	errs  *udpErrors // nil where the system does not tell them

	mu     sync.Mutex // guards recent
	recent [recentFlows]Flow

	stop chan struct{}
	once sync.Once
	wg   sync.WaitGroup
	err  error // of closing, written in once
}

// ListenUDP starts reading pc, whose addresses are *net.UDPAddr, and owns it from now on.
func ListenUDP(pc net.PacketConn, h Handler, o Options) *UDP {
	u := &UDP{pc: pc, g: newGuard(h, o.withDefaults()), stun: newBucket(stunRate), stop: make(chan struct{})}
	u.fast, _ = pc.(*net.UDPConn)
	u.local = addrOf(pc.LocalAddr())
	u.watch()
	u.wg.Add(1)
	go u.read()
	return u
}

// addrOf turns a net.Addr into an Addr.
func addrOf(a net.Addr) Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return AddrFrom(a.AddrPort())
	case *net.TCPAddr:
		return AddrFrom(a.AddrPort())
	case nil:
		return Addr{}
	}
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		return AddrFrom(ap)
	}
	return Addr{Host: a.String()}
}

// Local returns the socket's address.
func (u *UDP) Local() Addr { return u.local }

// Counters returns what was counted, live.
func (u *UDP) Counters() *Counters { return u.g.o.Counters }

// To returns the flow to addr. Two flows to one address compare equal.
func (u *UDP) To(addr netip.AddrPort) Flow {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	ip := addr.Addr().As16()
	slot := (uint16(ip[14])<<4 ^ uint16(ip[15]) ^ addr.Port() ^ addr.Port()>>8) % recentFlows
	u.mu.Lock()
	defer u.mu.Unlock()
	if f, ok := u.recent[slot].(udpFlow); ok && f.addr == addr {
		return u.recent[slot]
	}
	remote := AddrFrom(addr)
	u.recent[slot] = udpFlow{u, addr, remote, remote.String()}
	return u.recent[slot]
}

// Close ends the reader and waits for it. It must not be called by the handler.
func (u *UDP) Close() error {
	u.once.Do(func() {
		close(u.stop)
		u.err = u.pc.Close()
	})
	u.wg.Wait()
	return u.err
}

func (u *UDP) read() {
	defer u.wg.Done()
	buf := make([]byte, 1<<16)
	delay := time.Duration(0)
	for {
		n, from, err := u.receive(buf)
		if err == nil {
			delay = 0
			u.datagram(buf[:n], from) // which keeps nothing of buf
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if u.errs.told(err) {
			continue
		}
		// The socket lives and complains, of memory or, on other systems than Linux, of an earlier datagram. Try again, not in a hurry.
		if u.g.logs.take() {
			u.g.o.Logger.Warn("reading the UDP socket", "local", u.local, "error", err)
		}
		delay = min(max(2*delay, time.Millisecond), time.Second)
		select {
		case <-u.stop:
			return
		case <-time.After(delay):
		}
	}
}

func (u *UDP) receive(buf []byte) (int, netip.AddrPort, error) {
	if u.fast != nil {
		return u.fast.ReadFromUDPAddrPort(buf)
	}
	n, from, err := u.pc.ReadFrom(buf)
	if err != nil {
		return n, netip.AddrPort{}, err
	}
	a, ok := from.(*net.UDPAddr)
	if !ok {
		return n, netip.AddrPort{}, nil
	}
	return n, a.AddrPort(), nil
}

func (u *UDP) datagram(b []byte, from netip.AddrPort) {
	if len(b) == 0 || from.Port() == 0 || !from.Addr().IsValid() || from.Addr().IsUnspecified() || from.Addr().IsMulticast() {
		return
	}
	switch b[0] {
	case 0, 1: // no SIP message begins so; STUN does
		if r := stunResponse(b, from); r != nil && u.stun.take() {
			_ = u.To(from).Send(r)
		}
		return
	case '\r', '\n': // what many phones send to keep a NAT open
		return
	}
	if u.g.o.Heard != nil {
		u.g.o.Heard(from, len(b))
	}
	f := u.To(from)
	m, err := message.Parse(b, true)
	if err != nil {
		u.g.refused(f, err)
		return
	}
	stamp(m, f.Remote())
	u.g.message(f, f.(udpFlow).source, m)
}

// udpFlow is an address on a socket.
type udpFlow struct {
	u      *UDP
	addr   netip.AddrPort
	remote Addr   // addr with its host as text
	source string // addr as text
}

var _ Flow = udpFlow{}

func (f udpFlow) Transport() Transport  { return TransportUDP }
func (f udpFlow) Reliable() bool        { return false }
func (f udpFlow) Local() Addr           { return f.u.local }
func (f udpFlow) Remote() Addr          { return f.remote }
func (f udpFlow) Close() error          { return nil }
func (f udpFlow) Done() <-chan struct{} { return nil }
func (f udpFlow) Edge() bool            { return !f.u.g.o.Public }
func (f udpFlow) Peer() any             { return nil }

func (f udpFlow) Send(b []byte) error {
	if len(b) > maxDatagram {
		return ErrTooLarge
	}
	var err error
	if f.u.fast != nil {
		_, err = f.u.fast.WriteToUDPAddrPort(b, f.addr)
		for try := 0; try < 3 && f.u.errs.told(err); try++ { // of another datagram: this one has not been sent
			_, err = f.u.fast.WriteToUDPAddrPort(b, f.addr)
		}
	} else {
		_, err = f.u.pc.WriteTo(b, net.UDPAddrFromAddrPort(f.addr))
	}
	if errors.Is(err, net.ErrClosed) {
		return ErrClosed
	}
	if err != nil {
		return fmt.Errorf("send to %v: %w", f.addr, err)
	}
	return nil
}

func (f udpFlow) refuse(e *message.Error) {
	limit := e.Size
	if f.addr.Addr().IsLoopback() && !f.u.g.o.Public {
		limit = 0 // not forged from outside
	}
	f.u.g.refuse(f, e, limit)
}
