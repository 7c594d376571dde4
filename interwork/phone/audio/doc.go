// Package audio is what a telephone needs of sound when nobody listens: G.711 in both its laws, tones, files, and finding
// out whether the sound that was sent is the sound that arrived. Samples are 16 bit linear, 8000 a second, one channel.
//
// WAVE files come from anywhere, so reading one is bounded by octets, trusts no length in it and panics at nothing.
package audio

import "time"

// Of narrow-band telephony (RFC 3551 §4.5.14).
const (
	Rate        = 8000                  // samples per second
	FrameTime   = 20 * time.Millisecond // of one RTP packet
	FrameLength = Rate / 50             // samples, and with G.711 bytes, of one packet
)
