package phone

import (
	"errors"
	"net"
)

// sockets opens what one call's audio needs: for RTP, and for RTCP where Config.Media does not stand in the way.
func (p *Phone) sockets() (rtp, rtcp net.PacketConn, err error) {
	if p.cfg.Media != nil {
		rtp, err = p.cfg.Media()
		return rtp, nil, err
	}
	at := p.cfg.Local.LocalAddr().(*net.UDPAddr)
	return openPair(&net.UDPAddr{IP: at.IP, Zone: at.Zone})
}

// pairTries is how often two neighbouring ports are looked for before others do, which a=rtcp names.
const pairTries = 20

// openPair opens an even port and the one above it, as RFC 3550 §11 has it for phones that look no further.
func openPair(at *net.UDPAddr) (rtp, rtcp net.PacketConn, err error) {
	listen := func(port int) (*net.UDPConn, error) {
		return net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Zone: at.Zone, Port: port})
	}
	var spare net.PacketConn
	for range pairTries {
		a, err := listen(0)
		if err != nil {
			return nil, nil, errors.Join(err, closed(spare))
		}
		port := a.LocalAddr().(*net.UDPAddr).Port
		b, err := listen(port ^ 1)
		if err != nil {
			_ = closed(spare)
			spare = a // two single ports will do if no pair is found
			continue
		}
		_ = closed(spare)
		if port%2 == 1 {
			a, b = b, a
		}
		return a, b, nil
	}
	b, err := listen(0)
	if err != nil {
		return nil, nil, errors.Join(err, closed(spare))
	}
	return spare, b, nil
}

// closed closes what may be nil.
func closed(c net.PacketConn) error {
	if c == nil {
		return nil
	}
	return c.Close()
}
