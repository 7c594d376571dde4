package phone

import "time"

// reception counts packets of one source by their sequence numbers, extended (RFC 3550 appendix A.1), and measures their
// jitter (A.8).
type reception struct {
	ssrc     uint32
	started  bool
	first    int64
	highest  int64
	window   uint64 // bit n: highest-n was received
	received int    // of this source
	before   int    // of sources before it
	lostThen int

	jitter  float64 // in units of the timestamp
	transit float64 // of the last packet: arrival minus timestamp, same units

	bursts     int // runs of packets missing when the next one came
	burstsThen int

	reported struct{ expected, received int } // as of the last report, for the fraction lost since
}

// take counts a packet that arrived at a time; false for one that was there before or is too old to tell.
func (r *reception) take(p packet, at time.Duration) bool {
	if r.started && p.ssrc != r.ssrc {
		r.before, r.lostThen, r.burstsThen = r.before+r.received, r.lost(), r.burstsThen+r.bursts
		*r = reception{before: r.before, lostThen: r.lostThen, burstsThen: r.burstsThen}
	}
	if !r.started {
		r.started, r.ssrc = true, p.ssrc
		r.first, r.highest = int64(p.sequence), int64(p.sequence)
		r.window, r.received = 1, 1
		r.transit = at.Seconds()*clockRate - float64(p.timestamp)
		return true
	}
	step := int64(int16(p.sequence - uint16(r.highest)))
	switch {
	case step > 0:
		if step > 1 {
			r.bursts++
		}
		r.highest += step
		r.window = r.window<<min(step, 63) | 1
	case -step > 63 || r.window&(1<<-step) != 0:
		return false
	default:
		r.window |= 1 << -step
		r.first = min(r.first, r.highest+step)
	}
	r.received++
	r.measure(p.timestamp, at)
	return true
}

// clockRate of the RTP timestamps of G.711.
const clockRate = 8000

// measure takes one packet into the jitter. Timestamps wrap around, and a source may jump; a step of more than a second
// either way starts anew rather than counting as jitter.
func (r *reception) measure(timestamp uint32, at time.Duration) {
	transit := at.Seconds()*clockRate - float64(timestamp)
	d := transit - r.transit
	r.transit = transit
	if d < 0 {
		d = -d
	}
	if d < clockRate {
		r.jitter += (d - r.jitter) / 16
	}
}

// lost is the packets missing, of all sources so far.
func (r *reception) lost() int {
	if !r.started {
		return r.lostThen
	}
	return r.lostThen + r.expected() - r.received
}

// expected is the packets that the source has sent so far, by their numbers.
func (r *reception) expected() int { return int(r.highest-r.first) + 1 }

// lostSince gives the fraction of the packets lost since it was last asked, in 256ths (RFC 3550 appendix A.3).
func (r *reception) lostSince() uint8 {
	expected, received := r.expected()-r.reported.expected, r.received-r.reported.received
	r.reported.expected, r.reported.received = r.expected(), r.received
	if expected <= 0 || received >= expected {
		return 0
	}
	return uint8(min(255, (expected-received)<<8/expected))
}
