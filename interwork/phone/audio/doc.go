// Package audio is what a telephone needs of sound when nobody listens: G.711 µ-law, tones, and finding out whether the
// tone that was sent is the tone that arrived. Samples are 16 bit linear, 8000 a second, one channel.
package audio

import "time"

// Of narrow-band telephony (RFC 3551 §4.5.14).
const (
	Rate        = 8000                  // samples per second
	FrameTime   = 20 * time.Millisecond // of one RTP packet
	FrameLength = Rate / 50             // samples, and with PCMU bytes, of one packet
)
