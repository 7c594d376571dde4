package media

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"time"
)

// meter counts what comes in on a leg. It is guarded by the leg's lock.
type meter struct {
	packets, bytes, rtcp uint64
	lostBefore           uint64 // of sources that were replaced
	strange              uint64

	rate    func(payload uint8) uint32 // Hz of the RTP clock
	ssrc    uint32
	base    uint32 // first sequence number, extended (RFC 3550 §A.1)
	highest uint32 // latest, extended
	got     uint32 // packets of this source
	transit float64
	jitter  float64 // seconds
	begun   time.Time
}

// rtp counts a packet that was accepted; len(b) >= 12.
func (m *meter) rtpPacket(b []byte, now time.Time) {
	m.packets++
	m.bytes += uint64(len(b))
	seq := binary.BigEndian.Uint16(b[2:])
	stamp := binary.BigEndian.Uint32(b[4:])
	ssrc := binary.BigEndian.Uint32(b[8:])
	rate := uint32(8000)
	if m.rate != nil {
		if r := m.rate(b[1] & 0x7f); r != 0 {
			rate = r
		}
	}
	if m.got == 0 || ssrc != m.ssrc || m.jumped(seq) {
		m.lostBefore += m.lostNow()
		m.ssrc, m.base, m.got, m.begun = ssrc, 1<<16|uint32(seq), 1, now
		m.highest, m.jitter = m.base, 0
		m.transit = -seconds(stamp, rate)
		return
	}
	m.got++
	if d := int16(seq - uint16(m.highest)); d > 0 {
		m.highest += uint32(d)
	}
	// RFC 3550 §A.8, in seconds. Timestamps wrap: the difference to the expected transit is taken modulo their range.
	transit := now.Sub(m.begun).Seconds() - seconds(stamp, rate)
	d := math.Remainder(transit-m.transit, math.Exp2(32)/float64(rate))
	m.transit = transit
	m.jitter += (math.Abs(d) - m.jitter) / 16
}

// jumped says that a source began to count anew (RFC 3550 §A.1: MAX_DROPOUT).
func (m *meter) jumped(seq uint16) bool {
	d := int16(seq - uint16(m.highest))
	return d > 3000 || d < -3000
}

func seconds(stamp, rate uint32) float64 { return float64(stamp) / float64(rate) }

func (m *meter) lostNow() uint64 {
	if m.got == 0 {
		return 0
	}
	expected := m.highest - m.base + 1
	if expected <= m.got {
		return 0
	}
	return uint64(expected - m.got)
}

func (m *meter) stats() LegStats {
	return LegStats{
		Packets: m.packets, Bytes: m.bytes, RTCP: m.rtcp, Strange: m.strange,
		Lost: m.lostBefore + m.lostNow(), JitterMS: math.Round(m.jitter*1e5) / 100,
	}
}

// clockOf reads the clock of a payload type out of what names its codec, "opus/48000/2".
func clockOf(format, codec string) (pt uint8, rate uint32, ok bool) {
	n, err1 := strconv.ParseUint(format, 10, 7)
	f := strings.Split(codec, "/")
	if err1 != nil || len(f) < 2 {
		return 0, 0, false
	}
	r, err := strconv.ParseUint(f[1], 10, 32)
	return uint8(n), uint32(r), err == nil && r != 0
}
