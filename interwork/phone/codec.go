package phone

import (
	"slices"

	"p2psip/interwork/phone/audio"
)

// Codec is one way to write sound, by its static RTP payload type (RFC 3551 §6).
type Codec byte

// What this phone speaks.
const (
	PCMU Codec = 0 // G.711 µ-law
	PCMA Codec = 8 // G.711 A-law
)

// DefaultCodecs are offered if nothing else is said, the preferred one first.
func DefaultCodecs() []Codec { return []Codec{PCMU, PCMA} }

func (c Codec) String() string {
	if c == PCMA {
		return "PCMA"
	}
	return "PCMU"
}

func (c Codec) encode(dst []byte, samples []int16) []byte {
	if c == PCMA {
		return audio.EncodeALaw(dst, samples)
	}
	return audio.EncodeULaw(dst, samples)
}

func (c Codec) decode(dst []int16, b []byte) []int16 {
	if c == PCMA {
		return audio.DecodeALaw(dst, b)
	}
	return audio.DecodeULaw(dst, b)
}

// known picks out of formats, payload types as SDP writes them, those that are in codecs, in the order of formats.
func known(formats []string, codecs []Codec) (in []Codec) {
	for _, f := range formats {
		for _, c := range codecs {
			if f == c.format() && !slices.Contains(in, c) {
				in = append(in, c)
			}
		}
	}
	return in
}

func (c Codec) format() string {
	if c == PCMA {
		return "8"
	}
	return "0"
}
