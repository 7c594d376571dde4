package phone

import "p2psip/interwork/phone/audio"

// Source gives the sound that a phone sends in one call: it appends the next n samples (16 bit, audio.Rate a second) to
// dst. It is asked once a frame, by one goroutine.
type Source interface {
	Next(dst []int16, n int) []int16
}

// Sink takes the sound that was heard, a frame at a time, in order and without holes: where nothing has arrived there is
// silence. It is called by the goroutine that asks the Source, before it, and must not keep samples.
type Sink interface {
	Write(samples []int16)
}

var (
	_ Source = (*audio.Tone)(nil)
	_ Source = (*Clip)(nil)
	_ Source = (*Echo)(nil)
	_ Sink   = (*Echo)(nil)
	_ Sink   = (*audio.WavWriter)(nil)
)

// Clip is a Source that plays samples once and is silent afterwards.
type Clip struct{ Samples []int16 }

// Next implements Source.
func (c *Clip) Next(dst []int16, n int) []int16 {
	own := min(n, len(c.Samples))
	dst = append(dst, c.Samples[:own]...)
	c.Samples = c.Samples[own:]
	return appendSilence(dst, n-own)
}

// Echo sends back what was heard: it is both the Sink and the Source of a call.
type Echo struct{ frame []int16 }

// Write implements Sink.
func (e *Echo) Write(samples []int16) { e.frame = append(e.frame[:0], samples...) }

// Next implements Source.
func (e *Echo) Next(dst []int16, n int) []int16 {
	own := min(n, len(e.frame))
	dst = append(dst, e.frame[:own]...)
	e.frame = e.frame[:0]
	return appendSilence(dst, n-own)
}

func appendSilence(dst []int16, n int) []int16 {
	for range n {
		dst = append(dst, 0)
	}
	return dst
}
