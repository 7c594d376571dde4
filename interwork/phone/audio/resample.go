package audio

import "math"

// halfTaps is the length of the filter in Halve: odd, so that it has a middle. With 63 taps everything below 3.4 kHz, which
// is what a telephone line carries, passes, and what would come back mirrored from above 4.6 kHz is 40 dB down.
const halfTaps = 63

// Halve brings samples from 16000 a second down to 8000: a low-pass filter (a sinc at a quarter of the rate, under a
// Blackman window), then every second sample.
func Halve(samples []int16) []int16 {
	var taps [halfTaps]float64
	sum := 0.0
	for i := range taps {
		t := float64(i - halfTaps/2)
		v := 0.5
		if t != 0 {
			v = math.Sin(math.Pi*t/2) / (math.Pi * t)
		}
		at := 2 * math.Pi * float64(i) / (halfTaps - 1)
		taps[i] = v * (0.42 - 0.5*math.Cos(at) + 0.08*math.Cos(2*at))
		sum += taps[i]
	}
	out := make([]int16, 0, (len(samples)+1)/2)
	for at := 0; at < len(samples); at += 2 {
		v := 0.0
		for i, tap := range taps {
			if from := at + i - halfTaps/2; from >= 0 && from < len(samples) {
				v += tap * float64(samples[from])
			}
		}
		out = append(out, int16(max(math.MinInt16, min(math.MaxInt16, math.Round(v/sum)))))
	}
	return out
}
