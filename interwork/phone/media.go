package phone

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"p2psip/interwork/flow"
	"p2psip/interwork/phone/audio"
)

// kept is how much sound is remembered: the last half second.
const kept = audio.Rate / 2

// Stats is what a call's audio has come to so far.
type Stats struct {
	Sent     int         // packets
	Received int         // packets that were audio from the far side, each counted once
	Lost     int         // packets missing between the first and the last received
	Ignored  int         // packets from elsewhere, of another kind, repeated, or while this phone holds the call
	Heard    audio.Sound // the last half second received
}

// media is the audio of one call: it sends a tone and listens.
type media struct {
	conn   net.PacketConn
	silent bool // never sends or listens
	stop   chan struct{}
	wg     sync.WaitGroup
	ended  sync.Once

	mu      sync.Mutex
	running bool
	remote  netip.AddrPort
	dir     direction // of this side
	out     packet    // the next to be sent, without payload
	tone    audio.Tone
	sent    int
	ignored int
	in      reception
	sound   []int16 // the last received, at most kept
}

// reception counts packets of one source by their sequence numbers, extended to 32 bits (RFC 3550 appendix A.1).
type reception struct {
	ssrc     uint32
	started  bool
	first    int64
	highest  int64
	window   uint64 // bit n: highest-n was received
	received int    // of this source
	before   int    // of sources before it
	lostThen int
}

func newMedia(conn net.PacketConn, hz float64) *media {
	return &media{
		conn: conn, stop: make(chan struct{}), tone: audio.Tone{Hz: hz},
		out: packet{payloadType: pcmu, sequence: uint16(rand.Uint32()), timestamp: rand.Uint32(), ssrc: rand.Uint32()},
	}
}

func (m *media) local() netip.AddrPort {
	a := m.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// set directs the audio to remote; the first call starts it.
func (m *media) set(remote netip.AddrPort, dir direction) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remote, m.dir = remote, dir
	if m.running || m.silent {
		return
	}
	select {
	case <-m.stop:
		return
	default:
	}
	m.running = true
	m.wg.Add(2)
	go m.speak()
	go m.listen()
}

// close stops the audio and waits for it. What was counted stays.
func (m *media) close() {
	m.ended.Do(func() {
		m.mu.Lock() // set must not start what nobody stops
		close(m.stop)
		m.mu.Unlock()
		m.conn.Close()
	})
	m.wg.Wait()
}

// speak sends one packet of the tone every 20 ms as long as the session allows it.
func (m *media) speak() {
	defer m.wg.Done()
	tick := time.NewTicker(audio.FrameTime)
	defer tick.Stop()
	var samples []int16
	var wire []byte
	for {
		m.mu.Lock()
		to := m.remote
		silent := !m.dir.send || to.Port() == 0 || to.Addr().IsUnspecified()
		if !silent {
			samples = m.tone.Next(samples[:0], audio.FrameLength)
			p := m.out
			wire = audio.EncodeULaw(p.append(wire[:0]), samples)
			m.out.sequence++
			m.sent++
		}
		m.out.timestamp += audio.FrameLength // time passes in silence too
		m.mu.Unlock()
		if !silent {
			_, _ = m.conn.WriteTo(wire, net.UDPAddrFromAddrPort(to)) // a packet lost is what Lost of the far side tells
		}
		select {
		case <-tick.C:
		case <-m.stop:
			return
		}
	}
}

// listen takes in what arrives from the address that the far side has named.
func (m *media) listen() {
	defer m.wg.Done()
	buf := make([]byte, 2048)
	for {
		n, from, err := m.conn.ReadFrom(buf)
		if err != nil { // closed: the socket is not connected, so no ICMP error gets here
			return
		}
		m.arrived(buf[:n], from)
	}
}

func (m *media) arrived(b []byte, from net.Addr) {
	p, err := parseRTP(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	udp, ok := from.(*net.UDPAddr)
	source := ok && flow.AddrFrom(udp.AddrPort()) == flow.AddrFrom(m.remote)
	if err != nil || !source || p.payloadType != pcmu || !m.dir.recv || !m.in.take(p) {
		m.ignored++
		return
	}
	m.sound = audio.DecodeULaw(m.sound, p.payload)
	if over := len(m.sound) - kept; over > 0 {
		m.sound = append(m.sound[:0], m.sound[over:]...)
	}
}

// take counts a packet; false for one that was there before or is too old to tell.
func (r *reception) take(p packet) bool {
	if r.started && p.ssrc != r.ssrc {
		r.before, r.lostThen = r.before+r.received, r.lost()
		r.started, r.received = false, 0
	}
	if !r.started {
		r.started, r.ssrc = true, p.ssrc
		r.first, r.highest = int64(p.sequence), int64(p.sequence)
		r.window, r.received = 1, 1
		return true
	}
	step := int64(int16(p.sequence - uint16(r.highest)))
	switch {
	case step > 0:
		r.highest += step
		r.window = r.window<<min(step, 63) | 1
	case -step > 63 || r.window&(1<<-step) != 0:
		return false
	default:
		r.window |= 1 << -step
		r.first = min(r.first, r.highest+step)
	}
	r.received++
	return true
}

// lost is the packets missing, of all sources so far.
func (r *reception) lost() int {
	if !r.started {
		return r.lostThen
	}
	return r.lostThen + int(r.highest-r.first) + 1 - r.received
}

func (m *media) stats() Stats {
	m.mu.Lock()
	s := Stats{Sent: m.sent, Received: m.in.before + m.in.received, Lost: m.in.lost(), Ignored: m.ignored}
	sound := append([]int16(nil), m.sound...)
	m.mu.Unlock()
	s.Heard = audio.Listen(sound)
	return s
}

func (s Stats) String() string {
	return fmt.Sprintf("sent %d, received %d, lost %d, ignored %d, heard %.0f Hz", s.Sent, s.Received, s.Lost, s.Ignored, s.Heard.Hz)
}
