package audio

import "math"

// Tone makes a sine of one frequency, without a jump between the pieces asked for.
type Tone struct {
	Hz     float64
	Volume float64 // 0 to 1; 0 means 0.5
	n      int
}

// Next appends the next n samples to dst.
func (t *Tone) Next(dst []int16, n int) []int16 {
	vol := t.Volume
	if vol == 0 {
		vol = 0.5
	}
	for range n {
		// The phase is taken modulo one second so that it stays exact for whole-numbered frequencies.
		dst = append(dst, int16(vol*math.MaxInt16*math.Sin(2*math.Pi*t.Hz*float64(t.n%Rate)/Rate)))
		t.n++
	}
	return dst
}

// Sound is what was heard.
type Sound struct {
	Hz    float64 // the strongest frequency, to about 1 Hz; 0 for silence
	Share float64 // of the energy that is at Hz: near 1 for a clean tone
}

// Range and window of the search in Listen.
const (
	lowest, highest = 100, 3900 // Hz: what a telephone line carries, and a bit
	window          = Rate / 4  // samples looked at, at most
	tolerance       = 10        // Hz
)

// Is says whether the sound is that tone and hardly anything else.
func (s Sound) Is(hz float64) bool { return math.Abs(s.Hz-hz) <= tolerance && s.Share > 0.8 }

// Listen finds the strongest frequency in the end of samples with Goertzel's algorithm.
func Listen(samples []int16) Sound {
	if len(samples) > window {
		samples = samples[len(samples)-window:]
	}
	var energy float64
	for _, s := range samples {
		energy += float64(s) * float64(s)
	}
	if len(samples) < FrameLength || energy/float64(len(samples)) < 100 { // under -70 dB: nothing
		return Sound{}
	}
	best, at := 0.0, 0.0
	search := func(from, to, step float64) {
		for hz := from; hz <= to; hz += step {
			if p := goertzel(samples, hz); p > best {
				best, at = p, hz
			}
		}
	}
	// The transform of a tone in a window of n samples is a lobe 2*Rate/n wide: steps of half that cannot miss it, and
	// finer ones then find its top.
	step := float64(Rate) / float64(len(samples))
	search(lowest, highest, step)
	search(at-step, at+step, step/8)
	return Sound{Hz: at, Share: min(1, 2*best/(energy*float64(len(samples))))}
}

// goertzel is the squared magnitude of the Fourier transform of samples at one frequency.
func goertzel(samples []int16, hz float64) float64 {
	c := 2 * math.Cos(2*math.Pi*hz/Rate)
	var a, b float64
	for _, s := range samples {
		a, b = float64(s)+c*a-b, a
	}
	return a*a + b*b - c*a*b
}
