package phone

import (
	"math"
	"time"

	"p2psip/interwork/phone/audio"
)

// Quality is what decides how a call sounds, for the E-model.
type Quality struct {
	Loss  float64       // share of the packets that were missing when they were due, 0 to 1
	Burst float64       // how much more losses come in a row than chance would have it; below 1 and unknown mean 1
	Delay time.Duration // one way, from mouth to ear
}

// Figures of the E-model for G.711.
const (
	// bestR is the rating with all parameters at their defaults and no delay, ITU-T G.107 (12/2011) §7.7.
	bestR = 93.2
	// g711Ie and g711Bpl are the equipment impairment and the robustness against loss of G.711 in a telephone that
	// conceals lost packets (its appendix I), ITU-T G.113 (11/2007) appendix I.
	g711Ie, g711Bpl = 0, 25.1
)

// R is the transmission rating factor, from 0 (useless) to 93.2, after the E-model with everything but loss and delay at
// its defaults: R = 93.2 - Id - Ie,eff.
//
//   - Ie,eff = Ie + (95-Ie) * Ppl / (Ppl/BurstR + Bpl), G.107 §7.5, Ppl in percent.
//   - Id = 0.024 d + 0.11 (d-177.3) if d > 177.3, d in milliseconds: the approximation of G.107's Id by R. Cole and
//     J. Rosenbluth, "Voice over IP performance monitoring", ACM CCR 31(2), 2001, good below 400 ms.
func (q Quality) R() float64 {
	d := q.Delay.Seconds() * 1000
	id := 0.024 * d
	if d > 177.3 {
		id += 0.11 * (d - 177.3)
	}
	ppl := 100 * max(0, min(1, q.Loss))
	ie := g711Ie + (95-g711Ie)*ppl/(ppl/max(1, q.Burst)+g711Bpl)
	return max(0, bestR-id-ie)
}

// MOS is the mean opinion score that people would give, from 1 (bad) to 4.4, as the best that a telephone line gets (G.107
// annex B).
func (q Quality) MOS() float64 {
	r := q.R()
	return max(1, min(4.5, 1+0.035*r+r*(r-60)*(100-r)*7e-6))
}

// word is what users make of a rating (G.107 annex B, table B.1).
func word(r float64) string {
	switch {
	case r >= 90:
		return "very satisfied"
	case r >= 80:
		return "satisfied"
	case r >= 70:
		return "some dissatisfied"
	case r >= 60:
		return "many dissatisfied"
	case r >= 50:
		return "nearly all dissatisfied"
	}
	return "not recommended"
}

// Verdict is what users would say of the call.
func (q Quality) Verdict() string { return word(q.R()) }

// Quality rates what this side heard; false when it has heard nothing. Late packets count as lost. The delay is that of the
// frame that is being filled, of the way, and of the buffer on this side.
func (s Stats) Quality() (Quality, bool) {
	expected := s.Received + s.Lost
	if expected == 0 {
		return Quality{}, false
	}
	q := Quality{Loss: float64(s.Lost+s.Late) / float64(expected), Delay: audio.FrameTime + s.Delay + s.Buffered}
	if s.Bursts > 0 && q.Loss < 1 {
		// Mean length of a run of losses over the one that chance would give (G.107 §7.5).
		q.Burst = math.Max(1, float64(s.Lost)/float64(s.Bursts)*(1-q.Loss))
	}
	return q, true
}
