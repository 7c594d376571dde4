package media

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"p2psip/interwork/media/sdp"
)

// phoneCarrier is the near side of a stream: RTP and RTCP on a pair of ports, symmetric, on one port if the phone can do
// that (RFC 5761).
type phoneCarrier struct {
	leg       leg
	pair      *portPair
	told      netip.Addr // the address of this node as the phone knows it
	rtp, rtcp source
	wg        sync.WaitGroup

	mu  sync.Mutex
	mux bool
}

var _ carrier = (*phoneCarrier)(nil)

// newPhoneCarrier takes a pair of ports at the address by which the phone knows this node, or where that is none of this
// machine (a NAT in between) on all of them. Where nobody knows, it is the address that leads to the phone.
func newPhoneCarrier(pool *portPool, host, phone netip.Addr) (*phoneCarrier, error) {
	if !host.IsValid() || host.IsUnspecified() {
		host = addressTowards(phone)
	}
	pair, err := pool.open(host)
	if errors.Is(err, errNotHere) {
		any := netip.IPv4Unspecified()
		if host.Is6() {
			any = netip.IPv6Unspecified()
		}
		pair, err = pool.open(any)
	}
	if err != nil {
		return nil, err
	}
	p := &phoneCarrier{pair: pair, told: host}
	p.leg.carrier = p
	p.rtp.now, p.rtcp.now = time.Now, time.Now
	p.wg.Go(func() { p.read(pair.rtp, &p.rtp) })
	p.wg.Go(func() { p.read(pair.rtcp, &p.rtcp) })
	return p, nil
}

// addressTowards is the address of this machine from which packets to a go; nothing is sent to find out.
func addressTowards(a netip.Addr) netip.Addr {
	if a.IsValid() {
		if c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9))); err == nil {
			defer c.Close()
			return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		}
	}
	return netip.IPv4Unspecified()
}

// local is what a description for the phone may say about this end.
func (p *phoneCarrier) local(cert *certificate, keys []sdp.Crypto) sdp.Transport {
	return sdp.Transport{
		RTP:          netip.AddrPortFrom(p.told, p.pair.at.Port()),
		RTCP:         netip.AddrPortFrom(p.told, p.pair.at.Port()+1),
		Mux:          true,
		Fingerprints: []sdp.Fingerprint{cert.fingerprint},
		Crypto:       keys,
	}
}

// configure takes what the phone has agreed to. host is where it signals from.
func (p *phoneCarrier) configure(host netip.Addr, t sdp.Transport, mux, anew bool) {
	p.mu.Lock()
	p.mux = mux
	p.mu.Unlock()
	p.rtp.expect(host, addrOf(t.RTP), anew)
	rtcp := t.RTCP
	if mux || !rtcp.IsValid() {
		rtcp = netip.AddrPort{}
	}
	p.rtcp.expect(host, addrOf(rtcp), anew)
}

// read is the loop of one socket.
func (p *phoneCarrier) read(c *net.UDPConn, from *source) {
	readPackets(func(b []byte) (int, netip.AddrPort, error) { return c.ReadFromUDPAddrPort(b) }, func(b []byte, at netip.AddrPort) {
		if !from.accept(unmap(at)) {
			p.leg.strange()
			return
		}
		p.leg.receive(b)
	})
}

func (p *phoneCarrier) write(b []byte, rtcp bool) {
	c, src := p.pair.rtp, &p.rtp
	if rtcp {
		p.mu.Lock()
		mux := p.mux
		p.mu.Unlock()
		if !mux {
			c, src = p.pair.rtcp, &p.rtcp
		}
	}
	if to, ok := src.to(); ok {
		_, _ = c.WriteToUDPAddrPort(b, to) // what UDP loses is lost
	}
}

// close gives the ports back and waits for the readers.
func (p *phoneCarrier) close() {
	p.leg.stopDTLS()
	p.pair.Close()
	p.wg.Wait()
}
