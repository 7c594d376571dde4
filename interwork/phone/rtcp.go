package phone

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/pion/rtcp"
)

// DefaultReportEvery is the mean time between two reports: the minimum of RFC 3550 §6.2.
const DefaultReportEvery = 5 * time.Second

// maxDelay is the longest round trip that is believed of a report.
const maxDelay = 10 * time.Second

// coarseClock is by how much a far side may misjudge how long a report lay there: some phones count in milliseconds, and on a short way
// the round trip then comes out as less than nothing.
const coarseClock = 10 * time.Millisecond

// Control is what the far side has told in its reports (RTCP, RFC 3550 §6.4).
type Control struct {
	Sent     int           // reports of this side
	Received int           // reports of the far side that were about this one's audio
	Lost     int           // of this side's packets, as the far side counts
	Fraction float64       // share lost since the report before
	Jitter   time.Duration // there
	Trips    int           // of those reports, that told the round trip
}

// isRTCP tells RTCP from RTP on one port (RFC 5761 §4).
func isRTCP(b []byte) bool { return len(b) >= 8 && b[0]>>6 == 2 && b[1] >= 192 && b[1] <= 223 }

// ntp writes a time as NTP does (RFC 3550 §4).
func ntp(t time.Time) uint64 {
	const since1900 = 2208988800
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/1e9
}

// middle is the part of an NTP time that reports use: seconds with 16 bits before and 16 behind the point.
func middle(n uint64) uint32 { return uint32(n >> 16) }

func units(d time.Duration) uint32 { return uint32(d.Seconds() * 65536) }

// report sends one from time to time until the audio stops: each after 0.5 to 1.5 times the mean, the first after half of
// that (§6.3.1, with two members), and a BYE at the end.
func (m *media) report() {
	defer m.wg.Done()
	t := time.NewTimer(m.pause() / 2)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			m.sendReport(false)
			t.Reset(m.pause())
		case <-m.stop:
			return
		}
	}
}

func (m *media) pause() time.Duration { return m.every/2 + rand.N(m.every) }

// sendReport sends what is to be told now: a sender's or a receiver's report, the name of this source, and BYE at the end.
func (m *media) sendReport(bye bool) {
	now := time.Now()
	m.mu.Lock()
	var blocks []rtcp.ReceptionReport
	if r := &m.in; r.started {
		b := rtcp.ReceptionReport{
			SSRC: r.ssrc, FractionLost: r.lostSince(), TotalLost: uint32(max(0, min(1<<23-1, r.expected()-r.received))),
			LastSequenceNumber: uint32(r.highest), Jitter: uint32(r.jitter),
		}
		if m.heardReport != 0 && m.heardOf == r.ssrc {
			b.LastSenderReport, b.Delay = m.heardReport, units(now.Sub(m.heardAt))
		}
		blocks = append(blocks, b)
	}
	var first rtcp.Packet
	if m.sent > 0 {
		// The timestamp is that of this moment: the clock has gone on since the last packet left.
		first = &rtcp.SenderReport{
			SSRC: m.out.ssrc, NTPTime: ntp(now), RTPTime: m.out.timestamp, PacketCount: uint32(m.sent), OctetCount: uint32(m.octets), Reports: blocks,
		}
	} else {
		first = &rtcp.ReceiverReport{SSRC: m.out.ssrc, Reports: blocks}
	}
	packets := []rtcp.Packet{first, rtcp.NewCNAMESourceDescription(m.out.ssrc, m.name)}
	if bye {
		packets = append(packets, &rtcp.Goodbye{Sources: []uint32{m.out.ssrc}})
	}
	conn, to := m.control, m.remoteControl
	if m.mux {
		conn, to = m.conn, m.remote
	}
	if conn == nil || !reachable(to) {
		m.mu.Unlock()
		return
	}
	m.told.Sent++
	m.mu.Unlock()
	if b, err := rtcp.Marshal(packets); err == nil {
		_, _ = conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
	}
}

// listenControl takes reports in on the port that is for them.
func (m *media) listenControl() {
	defer m.wg.Done()
	buf := make([]byte, 2048)
	for {
		n, from, err := m.control.ReadFrom(buf)
		if err != nil {
			return
		}
		m.reported(buf[:n], from, time.Now())
	}
}

// reported takes a compound packet of the far side's in.
func (m *media) reported(b []byte, from net.Addr, at time.Time) {
	if !isRTCP(b) {
		return
	}
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !sameAddr(from, m.remoteControl) && !(m.mux && sameAddr(from, m.remote)) {
		return
	}
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			m.heardReport, m.heardOf, m.heardAt = middle(p.NTPTime), p.SSRC, at
			m.learn(p.Reports, at)
		case *rtcp.ReceiverReport:
			m.learn(p.Reports, at)
		}
	}
}

// learn reads what the far side says of this one's packets. m.mu is held.
func (m *media) learn(blocks []rtcp.ReceptionReport, at time.Time) {
	for _, b := range blocks {
		if b.SSRC != m.out.ssrc {
			continue
		}
		m.told.Received++
		lost := int(int32(b.TotalLost<<8) >> 8) // 24 bits with a sign
		m.told.Lost, m.told.Fraction = max(0, lost), float64(b.FractionLost)/256
		m.told.Jitter = time.Duration(float64(b.Jitter) / clockRate * float64(time.Second))
		if b.LastSenderReport == 0 {
			continue
		}
		// §6.4.1: arrival minus the time the report it answers was sent, minus what it lay there.
		trip := time.Duration(int32(middle(ntp(at))-b.LastSenderReport-b.Delay)) * time.Second / 65536
		if -coarseClock <= trip && trip < maxDelay { // else it speaks of a report that was never sent
			m.roundTrip = max(trip, 0)
			m.told.Trips++
		}
	}
}

func reachable(a netip.AddrPort) bool {
	return a.IsValid() && a.Port() != 0 && !a.Addr().IsUnspecified()
}
