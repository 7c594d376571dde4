package phone

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"p2psip/interwork/flow"
	"p2psip/interwork/phone/audio"
)

// kept is how much sound is remembered for Stats.Heard: the last half second.
const kept = audio.Rate / 2

// behind is how late a packet may leave before the frames that are overdue are left out rather than sent in a burst.
const behind = 5 * audio.FrameTime

// Stats is what a call's audio has come to so far.
type Stats struct {
	Codec    Codec       // sent; what comes in may be the other one
	Sent     int         // packets
	Received int         // packets that were audio from the far side, each counted once
	Lost     int         // packets missing between the first and the last received
	Bursts   int         // runs that they came in
	Late     int         // packets received too late to be played
	Ignored  int         // packets from elsewhere, of another kind, repeated, or while this phone holds the call
	Heard    audio.Sound // the last half second received

	First    time.Duration // from the agreement on the audio to the first packet received; 0: there was none
	Gap      time.Duration // the longest time without a packet, among those that should have come; the one under way counts
	Jitter   time.Duration // of the packets received (RFC 3550 §6.4.1)
	Buffered time.Duration // that packets wait on average before they are played
	Delay    time.Duration // one way to the far side, half of the round trip in its reports; counts if Control.Trips does
	Control  Control       // what the far side reports
}

// media is the audio of one call: it plays a Source to the far side and hands what comes from there to a Sink.
type media struct {
	conn    net.PacketConn
	control net.PacketConn // for RTCP; nil: RTCP only where it shares the other port
	silent  bool           // never sends or listens
	every   time.Duration  // between two reports; negative: none
	name    string         // CNAME (RFC 7022)
	codecs  []Codec
	source  Source
	sink    Sink // nil: nobody listens
	stop    chan struct{}
	wg      sync.WaitGroup
	ended   sync.Once
	begun   time.Time // arrival times count from here

	mu            sync.Mutex // guards what follows
	running       bool
	agreed        time.Time
	remote        netip.AddrPort
	remoteControl netip.AddrPort
	mux           bool // RTCP shares the port
	dir           direction
	codec         Codec
	out           packet // the next to be sent, without payload
	sent, octets  int
	ignored       int
	in            reception
	play          playout
	sound         []int16 // the last received, at most kept
	first         time.Duration
	last          time.Time // when a packet came, or was to come from
	gap           time.Duration
	over          time.Time // when the audio ended

	told        Control
	roundTrip   time.Duration
	heardReport uint32 // middle of the NTP time in the last sender's report of the far side
	heardOf     uint32 // its source
	heardAt     time.Time
}

func newMedia(conn, control net.PacketConn, source Source) *media {
	return &media{
		conn: conn, control: control, source: source, every: DefaultReportEvery, name: token(), codecs: DefaultCodecs(),
		stop: make(chan struct{}), begun: time.Now(),
		out: packet{sequence: uint16(rand.Uint32()), timestamp: rand.Uint32(), ssrc: rand.Uint32()},
	}
}

func localOf(conn net.PacketConn) netip.AddrPort {
	a := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func (m *media) local() netip.AddrPort { return localOf(m.conn) }

// describe writes the session from this side's point of view: an offer, or the answer to one.
func (m *media) describe(user string, session, version uint64, dir direction, offer *description) []byte {
	w := writing{user: user, session: session, version: version, local: m.local(), dir: dir, codecs: m.codecs, offer: offer}
	if m.control != nil {
		w.control = localOf(m.control).Port()
	}
	return w.bytes()
}

// set directs the audio as the far side has described; the first call starts it.
func (m *media) set(to description, dir direction) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.remote, m.remoteControl, m.mux = to.addr, to.control, to.mux
	if !m.dir.recv || !dir.recv { // nothing was to come, or is to come from now on
		m.last = now
	}
	m.dir = dir
	if len(to.codecs) > 0 {
		m.codec = to.codecs[0]
	}
	if m.running || m.silent {
		return
	}
	select {
	case <-m.stop:
		return
	default:
	}
	m.running, m.agreed, m.last = true, now, now
	m.wg.Add(2)
	go m.speak()
	go m.listen()
	if m.every > 0 {
		m.wg.Add(1)
		go m.report()
		if m.control != nil {
			m.wg.Add(1)
			go m.listenControl()
		}
	}
}

// close stops the audio and waits for it. What was counted stays.
func (m *media) close() {
	m.ended.Do(func() {
		m.mu.Lock() // set must not start what nobody stops
		close(m.stop)
		m.over = time.Now()
		said := m.running && m.every > 0
		m.mu.Unlock()
		if said {
			m.sendReport(true)
		}
		m.conn.Close()
		if m.control != nil {
			m.control.Close()
		}
	})
	m.wg.Wait()
}

// speak plays what has come in and sends one packet, every 20 ms. Its clock is that of the machine, not of the ticks it got:
// after a stall what is a little overdue is sent at once, and what is more than that is left out.
func (m *media) speak() {
	defer m.wg.Done()
	next := time.Now()
	t := time.NewTimer(0)
	defer t.Stop()
	var heard, samples []int16
	var wire []byte
	for {
		select {
		case <-t.C:
		case <-m.stop:
			return
		}
		if m.sink != nil {
			m.mu.Lock()
			heard = m.play.pull(heard[:0], audio.FrameLength)
			m.mu.Unlock()
			m.sink.Write(heard)
		}
		m.mu.Lock()
		sends := m.dir.send && reachable(m.remote)
		m.mu.Unlock()
		if sends {
			samples = m.source.Next(samples[:0], audio.FrameLength)
		}
		m.mu.Lock()
		to := m.remote
		if sends {
			m.out.payloadType = byte(m.codec)
			wire = m.codec.encode(m.out.append(wire[:0]), samples)
			m.out.sequence++
			m.sent++
			m.octets += len(wire) - rtpHeader
		}
		m.out.timestamp += audio.FrameLength // time passes in silence too
		m.mu.Unlock()
		if sends {
			_, _ = m.conn.WriteTo(wire, net.UDPAddrFromAddrPort(to)) // a packet lost is what Lost of the far side tells
		}
		next = next.Add(audio.FrameTime)
		if late := time.Since(next); late > behind {
			skip := late / audio.FrameTime
			next = next.Add(skip * audio.FrameTime)
			m.mu.Lock()
			m.out.timestamp += uint32(skip) * audio.FrameLength
			m.mu.Unlock()
		}
		t.Reset(time.Until(next))
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
		if now := time.Now(); isRTCP(buf[:n]) {
			m.reported(buf[:n], from, now)
		} else {
			m.arrived(buf[:n], from, now)
		}
	}
}

func sameAddr(from net.Addr, a netip.AddrPort) bool {
	udp, ok := from.(*net.UDPAddr)
	return ok && flow.AddrFrom(udp.AddrPort()) == flow.AddrFrom(a)
}

func (m *media) arrived(b []byte, from net.Addr, at time.Time) {
	p, err := parseRTP(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	ok := err == nil && sameAddr(from, m.remote) && m.dir.recv && slices.Contains(m.codecs, Codec(p.payloadType))
	before := m.in.ssrc
	if !ok || !m.in.take(p, at.Sub(m.begun)) {
		m.ignored++
		return
	}
	if m.first == 0 {
		m.first = max(1, at.Sub(m.agreed))
	} else {
		m.gap = max(m.gap, at.Sub(m.last))
	}
	m.last = at
	codec := Codec(p.payloadType)
	m.sound = codec.decode(m.sound, p.payload)
	if over := len(m.sound) - kept; over > 0 {
		m.sound = append(m.sound[:0], m.sound[over:]...)
	}
	if m.sink != nil {
		if before != p.ssrc {
			m.play.reset()
		}
		m.play.put(p.timestamp, codec.decode(nil, p.payload))
	}
}

func (m *media) stats() Stats {
	m.mu.Lock()
	r := &m.in
	s := Stats{
		Codec: m.codec, Sent: m.sent, Received: r.before + r.received, Lost: r.lost(), Bursts: r.burstsThen + r.bursts, Late: m.play.late, Ignored: m.ignored,
		First: m.first, Gap: m.gap, Jitter: samplesTime(int64(r.jitter)), Buffered: samplesTime(m.play.delay()), Delay: m.roundTrip / 2, Control: m.told,
	}
	if m.first > 0 && m.dir.recv {
		end := m.over
		if end.IsZero() {
			end = time.Now()
		}
		s.Gap = max(s.Gap, end.Sub(m.last))
	}
	sound := append([]int16(nil), m.sound...)
	m.mu.Unlock()
	s.Heard = audio.Listen(sound)
	return s
}

func samplesTime(n int64) time.Duration { return time.Duration(n) * time.Second / audio.Rate }

func (s Stats) String() string {
	return fmt.Sprintf("sent %d, received %d, lost %d, ignored %d, heard %.0f Hz", s.Sent, s.Received, s.Lost, s.Ignored, s.Heard.Hz)
}
