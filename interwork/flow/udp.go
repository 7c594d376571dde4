package flow

import (
	"net"
	"net/netip"
	"sync"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

// UDP is one datagram socket and its reader.
type UDP struct {
	pc net.PacketConn
	h  Handler
	wg sync.WaitGroup
}

// ListenUDP starts reading pc and owns it from now on.
func ListenUDP(pc net.PacketConn, h Handler, o Options) *UDP {
	u := &UDP{pc: pc, h: h}
	u.wg.Add(1)
	go u.read()
	return u
}

func (u *UDP) read() {
	defer u.wg.Done()
	buf := make([]byte, 65536)
	for {
		n, from, err := u.pc.ReadFrom(buf)
		if err != nil {
			return
		}
		ap := from.(*net.UDPAddr).AddrPort()
		f := u.To(netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		m, err := message.Parse(append([]byte(nil), buf[:n]...), true)
		if e, ok := err.(*message.Error); ok {
			u.h.HandleMalformed(f, e)
		} else if err == nil {
			stamp(m, f.Remote())
			u.h.HandleMessage(f, m)
		}
	}
}

// Local returns the socket's address.
func (u *UDP) Local() Addr { return AddrFrom(u.pc.LocalAddr().(*net.UDPAddr).AddrPort()) }

// To returns the flow to addr. It is a value of no cost: nothing is kept for it.
func (u *UDP) To(addr netip.AddrPort) Flow { return udpFlow{u, addr} }

// Close ends the reader and waits for it.
func (u *UDP) Close() error {
	err := u.pc.Close()
	u.wg.Wait()
	return err
}

type udpFlow struct {
	u    *UDP
	addr netip.AddrPort
}

func (f udpFlow) Transport() Transport  { return TransportUDP }
func (f udpFlow) Reliable() bool        { return false }
func (f udpFlow) Local() Addr           { return f.u.Local() }
func (f udpFlow) Remote() Addr          { return AddrFrom(f.addr) }
func (f udpFlow) Close() error          { return nil }
func (f udpFlow) Done() <-chan struct{} { return nil }
func (f udpFlow) Edge() bool            { return true }
func (f udpFlow) Peer() any             { return nil }
func (f udpFlow) Send(b []byte) error {
	_, err := f.u.pc.WriteTo(b, net.UDPAddrFromAddrPort(f.addr))
	return err
}

func stamp(m sip.Message, from Addr) {}
