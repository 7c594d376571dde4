package audio

import "math"

// Match says how well heard is what was sent: the best correlation that one whole piece of sent has with any place in heard,
// between -1 and 1, and where that place begins. 1 is the same sound, louder or softer; G.711 in between leaves more than
// 0.99. It is 0 when heard is shorter than piece, or one of them is silent.
//
// It takes len(heard)*len(piece) steps: for seconds, not for hours.
func Match(piece, heard []int16) (correlation float64, at int) {
	n := len(piece)
	if n == 0 || len(heard) < n {
		return 0, 0
	}
	var own float64
	for _, s := range piece {
		own += float64(s) * float64(s)
	}
	var energy float64
	for _, s := range heard[:n] {
		energy += float64(s) * float64(s)
	}
	best := 0.0
	for from := 0; ; from++ {
		if own > 0 && energy > 0 {
			var dot float64
			for i, s := range piece {
				dot += float64(s) * float64(heard[from+i])
			}
			if c := dot / math.Sqrt(own*energy); c > best {
				best, at = c, from
			}
		}
		if from+n == len(heard) {
			return best, at
		}
		gone, come := float64(heard[from]), float64(heard[from+n])
		energy += come*come - gone*gone
	}
}
