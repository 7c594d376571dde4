package client

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/pion/stun"
)

var _ sink = (*Allocation)(nil)

// sendIndication is the type of a Send indication (RFC 8656 §18).
const sendIndication = 0x0016

// WriteTo sends p to a *net.UDPAddr through the relay peer. It never waits for an answer of the relay peer: where there is no
// permission yet, it is asked for in front of p.
func (a *Allocation) WriteTo(p []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, a.opError("write", to, errNoUDPAddr)
	}
	n, err := a.WriteToAddrPort(p, u.AddrPort())
	if err != nil {
		return n, a.opError("write", to, err)
	}
	return n, nil
}

// WriteToAddrPort is WriteTo without net.Addr.
func (a *Allocation) WriteToAddrPort(p []byte, to netip.AddrPort) (int, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	switch {
	case to.Port() == 0 || !to.IsValid():
		return 0, errNotPeerAddr
	case len(p) > maxMessage-64:
		return 0, errBadMessage
	}
	number, err := a.route(to)
	if err != nil {
		return 0, err
	}
	f, ok := a.frames.Get().(*[]byte)
	if !ok {
		f = new([]byte)
	}
	defer a.frames.Put(f)
	b := (*f)[:0]
	if number != 0 {
		b = binary.BigEndian.AppendUint16(b, number)
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
		b = append(b, p...)
		if a.link.stream { // over UDP there need not be any padding (RFC 8656 §12.5)
			b = append(b, make([]byte, -len(p)&3)...)
		}
	} else {
		b = appendSend(b, p, to)
	}
	*f = b
	if err := a.link.write(b); err != nil {
		a.suspicious()
		return 0, err
	}
	a.sent.Add(1)
	a.out.Add(uint64(len(p)))
	if !a.busy.Load() && a.busy.CompareAndSwap(false, true) {
		select {
		case a.began <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

// appendSend writes a Send indication (RFC 8656 §11.1).
func appendSend(b, p []byte, to netip.AddrPort) []byte {
	id := stun.NewTransactionID()
	size := 8
	if to.Addr().Is6() {
		size = 20
	}
	padded := len(p) + -len(p)&3
	b = binary.BigEndian.AppendUint16(b, sendIndication)
	b = binary.BigEndian.AppendUint16(b, uint16(4+size+4+padded))
	b = binary.BigEndian.AppendUint32(b, magicCookie)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(attrPeerAddress))
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = appendXOR(b, to, id)
	b = binary.BigEndian.AppendUint16(b, uint16(attrData))
	b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	b = append(b, p...)
	return append(b, make([]byte, padded-len(p))...)
}

// route finds the channel to an address, 0 if there is none, and sees that there is a permission.
func (a *Allocation) route(to netip.AddrPort) (uint16, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return 0, a.err
	}
	perm, err := a.permission(to.Addr())
	if err != nil {
		return 0, err
	}
	if perm.state == permRefused {
		return 0, perm.err
	}
	x := a.targets[to]
	if x == nil {
		if len(a.targets) >= maxTargets && !a.forgetTarget() {
			return 0, errTooManyTo
		}
		x = &target{addr: to}
		a.targets[to] = x
	}
	x.packets++
	x.used = a.now()
	if x.number == 0 && x.packets > channelAfter && len(a.channels) < maxChannels && a.next <= maxChannel {
		x.number = a.next
		a.next++
		a.channels[x.number] = x
		select {
		case a.wishes <- to:
		default: // as many as there may be are waiting already, so this cannot be
		}
	}
	if x.bound {
		return x.number, nil
	}
	return 0, nil
}

// forgetTarget makes room for another address. a.mu is held.
func (a *Allocation) forgetTarget() bool {
	var oldest *target
	for _, x := range a.targets {
		if x.number == 0 && (oldest == nil || x.used.Before(oldest.used)) {
			oldest = x
		}
	}
	if oldest == nil {
		return false
	}
	delete(a.targets, oldest.addr)
	return true
}

// bind asks for a channel (RFC 8656 §12.1), or for more time for it.
func (a *Allocation) bind(ctx context.Context, to netip.AddrPort) error {
	a.mu.Lock()
	x := a.targets[to]
	a.mu.Unlock()
	if x == nil || x.number == 0 {
		return nil
	}
	_, err := a.session.request(ctx, stun.MethodChannelBind, channelNumber(x.number), peerAddress(to))
	a.mu.Lock()
	defer a.mu.Unlock()
	x.bound = err == nil // without one, the data goes on in indications
	return err
}

// ReadFrom gives the next packet and the *net.UDPAddr it came from. What does not fit into p is lost.
func (a *Allocation) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := a.ReadFromAddrPort(p)
	if err != nil {
		return n, nil, a.opError("read", nil, err)
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromAddrPort is ReadFrom without net.Addr.
func (a *Allocation) ReadFromAddrPort(p []byte) (int, netip.AddrPort, error) {
	return a.inbox.get(p, a.done, a.reading.passed(), a.Err)
}

func (a *Allocation) opError(op string, to net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "turn", Source: a.LocalAddr(), Addr: to, Err: err}
}

// channel implements sink.
func (a *Allocation) channel(number uint16, b []byte) {
	a.mu.Lock()
	x := a.channels[number]
	a.mu.Unlock()
	if x == nil {
		a.strange.Add(1)
		return
	}
	a.deliver(x.addr, b)
}

// indication implements sink. The relay peer lets through what has permission, and is not believed in that.
func (a *Allocation) indication(from netip.AddrPort, b []byte) {
	a.mu.Lock()
	p := a.perms[from.Addr()]
	known := p != nil && p.state != permRefused
	a.mu.Unlock()
	if !known {
		a.strange.Add(1)
		return
	}
	a.deliver(from, b)
}

func (a *Allocation) deliver(from netip.AddrPort, b []byte) {
	a.received.Add(1)
	a.in.Add(uint64(len(b)))
	a.inbox.put(from, b)
}

// suspicious implements sink.
func (a *Allocation) suspicious() {
	select {
	case a.suspect <- struct{}{}:
	default:
	}
}
