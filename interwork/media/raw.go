package media

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"p2psip/interwork/media/sdp"
)

// rawEnd is plain RTP and RTCP on one socket, towards an outside without ICE.
type rawEnd struct {
	sock      *socket
	at        netip.AddrPort // as the description gives it
	mux       atomic.Bool
	rtp, rtcp source
}

// startRaw does without ICE: of the bundle the socket stays that the description named, and packets are taken from the address
// that the answer gave, or from one source on that host.
func (f *farCarrier) startRaw(g *generation, t sdp.Transport, mux, anew bool) error {
	at := addrOf(t.RTP)
	if at.IsValid() && at.Port() != 0 && !at.Addr().IsUnspecified() && !sendable(at, g.loopback) {
		return errors.New("media: the far side gives an address that is none to send to: " + at.Addr().String())
	}
	r := f.raw.Load()
	if r == nil {
		s := g.bundle.best()
		r = &rawEnd{sock: s, at: s.local}
		r.rtp.now, r.rtcp.now = time.Now, time.Now
		f.raw.Store(r)
		for _, o := range g.bundle.socks {
			if o != s {
				o.close()
			}
		}
		f.wg.Go(func() { f.readRaw(r) })
	}
	r.mux.Store(mux)
	host := at.Addr()
	if host.IsUnspecified() {
		host = netip.Addr{}
	}
	r.rtp.expect(host, at, anew)
	rtcp := addrOf(t.RTCP)
	if !sendable(rtcp, g.loopback) {
		rtcp = netip.AddrPort{}
	}
	r.rtcp.expect(host, rtcp, anew)
	if p, ok := r.sock.alloc.(permitter); ok && host.IsValid() {
		f.wg.Go(func() { _ = p.Permit(host) }) // else a far side that sends first would not be heard
	}
	f.beginDTLS()
	return nil
}

// permitter is an Allocation that can be told who may send (RFC 8656 §9) before anything is sent there.
type permitter interface{ Permit(netip.Addr) error }

func (f *farCarrier) readRaw(r *rawEnd) {
	readPackets(r.sock.read, func(b []byte, from netip.AddrPort) {
		src := &r.rtp
		if isRTP(b) && isRTCP(b) && !r.mux.Load() {
			src = &r.rtcp
		}
		if !src.accept(from) {
			f.leg.strange()
			return
		}
		f.leg.receive(b)
	})
}

func (r *rawEnd) write(b []byte, rtcp bool) {
	src := &r.rtp
	if rtcp && !r.mux.Load() {
		src = &r.rtcp
	}
	if to, ok := src.to(); ok {
		_ = r.sock.write(b, to)
	}
}
