package media

import (
	"encoding/binary"
	"math"
	"testing"
	"time"
)

func rtpPacket(seq uint16, stamp, ssrc uint32, payload int) []byte {
	b := make([]byte, 12+payload)
	b[0] = 0x80
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], stamp)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	return b
}

func TestMeterCountsLossByNumbers(t *testing.T) {
	var m meter
	t0 := time.Unix(1000, 0)
	for i := range 100 {
		if i == 10 || i == 11 || i == 50 {
			continue
		}
		m.rtpPacket(rtpPacket(uint16(65500+i), uint32(math.MaxUint32-1000+160*i), 7, 160), t0.Add(time.Duration(i)*20*time.Millisecond))
	}
	s := m.stats()
	if s.Packets != 97 || s.Lost != 3 || s.Bytes != 97*172 {
		t.Errorf("got %+v", s)
	}
	if s.JitterMS > 0.01 {
		t.Errorf("jitter of an even stream is %v ms", s.JitterMS)
	}
	// A new source: what was lost before stays counted, and its numbers are its own.
	m.rtpPacket(rtpPacket(3, 0, 8, 160), t0)
	if s := m.stats(); s.Lost != 3 {
		t.Errorf("a new source counts %d lost", s.Lost)
	}
}

func TestMeterJitter(t *testing.T) {
	var m meter
	t0 := time.Unix(1000, 0)
	for i := range 400 {
		at := t0.Add(time.Duration(i) * 20 * time.Millisecond)
		if i%2 == 1 {
			at = at.Add(8 * time.Millisecond)
		}
		m.rtpPacket(rtpPacket(uint16(i), uint32(160*i), 7, 160), at)
	}
	if j := m.stats().JitterMS; j < 7.5 || j > 8.5 { // |D| is 8 ms for every packet
		t.Errorf("jitter %v ms, want 8", j)
	}
}
