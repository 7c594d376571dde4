package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pion/stun"
)

// askedAtOnce is how many relay peers Reflexive asks: the first that answers is believed.
const askedAtOnce = 2

// Servers gives the UDP addresses of relay peers that answer STUN Binding requests, best first.
func (p *Pool) Servers() (out []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.choose(nil, nil) {
		for _, e := range r.ends(p.cfg.Permit) {
			if e.transport == UDP {
				out = append(out, e.addr)
			}
		}
	}
	return out
}

// Reflexive gives the address that relay peers see conn behind (RFC 8489 §2), by a Binding request to the best two of its
// address family. Nobody else may read from conn meanwhile; what comes from elsewhere is lost.
func (p *Pool) Reflexive(ctx context.Context, conn net.PacketConn) (netip.AddrPort, error) {
	var servers []netip.AddrPort
	local, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	for _, s := range p.Servers() {
		if local.IsValid() && local.Addr().Unmap().Is4() && !s.Addr().Is4() || local.Addr().Is6() && !local.Addr().IsUnspecified() && !local.Addr().Is4In6() && s.Addr().Is4() {
			continue
		}
		if len(servers) < askedAtOnce {
			servers = append(servers, s)
		}
	}
	if len(servers) == 0 {
		return netip.AddrPort{}, fmt.Errorf("%w: no relay peer is known that could tell", ErrNoRelay)
	}
	return reflexive(ctx, conn, servers)
}

func reflexive(ctx context.Context, conn net.PacketConn, servers []netip.AddrPort) (netip.AddrPort, error) {
	ids := map[transactionID]netip.AddrPort{}
	var raw [][]byte
	for _, s := range servers {
		m, err := stun.Build(stun.TransactionID, stun.BindingRequest, padding, stun.Fingerprint)
		if err != nil {
			return netip.AddrPort{}, err
		}
		ids[m.TransactionID] = s
		raw = append(raw, m.Raw)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		stop()
		_ = conn.SetReadDeadline(time.Time{})
	}()
	buf := make([]byte, maxMessage)
	pause := firstRTO
	var lastErr error
	for range maxSends {
		sent := 0
		for i, s := range servers {
			if _, err := conn.WriteTo(raw[i], net.UDPAddrFromAddrPort(s)); err != nil {
				lastErr = err
				continue
			}
			sent++
		}
		if sent == 0 {
			break
		}
		end := time.Now().Add(pause)
		_ = conn.SetReadDeadline(end)
		for ctx.Err() == nil && time.Now().Before(end) {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					lastErr = err // an ICMP error about one of them: the other may answer
					if errors.Is(err, net.ErrClosed) {
						return netip.AddrPort{}, err
					}
				}
				continue
			}
			if a, ok := mappedIn(buf[:n], from, ids); ok {
				return a, nil
			}
		}
		if ctx.Err() != nil {
			return netip.AddrPort{}, fmt.Errorf("%w: %w", errNoAnswer, ctx.Err())
		}
		pause = min(2*pause, maxRTO)
	}
	return netip.AddrPort{}, errors.Join(errNoAnswer, lastErr)
}

// mappedIn reads the response to one of the requests, if b is one and comes from where it was sent.
func mappedIn(b []byte, from net.Addr, ids map[transactionID]netip.AddrPort) (netip.AddrPort, bool) {
	m := stun.New()
	m.Raw = append(m.Raw[:0], b...)
	if !stun.IsMessage(b) || m.Decode() != nil || m.Type != stun.BindingSuccess {
		return netip.AddrPort{}, false
	}
	ap, err := netip.ParseAddrPort(from.String())
	if err != nil || ids[m.TransactionID] != netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()) {
		return netip.AddrPort{}, false
	}
	a, err := addressIn(m, stun.AttrXORMappedAddress)
	if err != nil || a.Port() == 0 || !a.IsValid() {
		return netip.AddrPort{}, false
	}
	return a, true
}
