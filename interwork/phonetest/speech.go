package phonetest

import (
	"math"
	"math/rand/v2"
	"time"

	"p2psip/interwork/phone/audio"
)

// Speech makes sound of the kind that people make: syllables of changing pitch and colour with pauses in between. No two
// pieces of it are alike, so audio.Match finds where one of them went; another seed is another speaker.
func Speech(seed uint64, d time.Duration) []int16 {
	r := rand.New(rand.NewPCG(seed, 0x5EEC4))
	n := int(d.Seconds() * audio.Rate)
	out := make([]int16, 0, n)
	phase := 0.0
	pitch := 90 + 120*r.Float64()
	for len(out) < n {
		if r.IntN(5) == 0 {
			for range r.IntN(audio.Rate / 8) { // a breath
				out = append(out, int16(60*(r.Float64()-0.5)))
			}
			continue
		}
		length := audio.Rate/10 + r.IntN(audio.Rate/6)
		first, second := 300+600*r.Float64(), 900+1600*r.Float64()
		bend := 0.8 + 0.4*r.Float64()
		for i := range length {
			t := float64(i) / float64(length)
			hz := pitch * (1 + (bend-1)*t)
			phase += hz / audio.Rate
			v := 0.0
			for k := 1; hz*float64(k) < 3400; k++ {
				f := hz * float64(k)
				colour := 1/(1+math.Pow((f-first)/120, 2)) + 0.6/(1+math.Pow((f-second)/180, 2))
				v += colour * math.Sin(2*math.Pi*float64(k)*phase)
			}
			v += 0.15 * (r.Float64() - 0.5)
			out = append(out, int16(5000*v*math.Sin(math.Pi*t)/(1+math.Abs(v)/3)))
		}
	}
	return out[:n]
}
