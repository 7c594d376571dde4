package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Wav is a WAVE file of samples: 16 bit linear, 8000 Hz, one channel.
func Wav(samples []int16) []byte {
	le := binary.LittleEndian
	n := uint32(2 * len(samples))
	b := make([]byte, 0, 44+n)
	b = le.AppendUint32(append(b, "RIFF"...), 36+n)
	b = le.AppendUint32(append(b, "WAVEfmt "...), 16)
	b = le.AppendUint16(b, 1) // linear
	b = le.AppendUint16(b, 1) // channel
	b = le.AppendUint32(b, Rate)
	b = le.AppendUint32(b, 2*Rate)
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, 16)
	b = le.AppendUint32(append(b, "data"...), n)
	for _, s := range samples {
		b = le.AppendUint16(b, uint16(s))
	}
	return b
}

// ParseWav reads such a file. The length in the header is not relied on: a recorder that is still writing, or was killed,
// leaves 0 there, and the samples go to the end of the file.
func ParseWav(b []byte) ([]int16, error) {
	le := binary.LittleEndian
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return nil, errors.New("not a WAVE file")
	}
	for b = b[12:]; len(b) >= 8; {
		id, n := string(b[:4]), le.Uint32(b[4:])
		b = b[8:]
		if id == "data" {
			if n > 0 && int64(n) < int64(len(b)) {
				b = b[:n]
			}
			samples := make([]int16, 0, len(b)/2)
			for ; len(b) >= 2; b = b[2:] {
				samples = append(samples, int16(le.Uint16(b)))
			}
			return samples, nil
		}
		if int64(n) > int64(len(b)) {
			break
		}
		if id == "fmt " && n >= 16 && (le.Uint16(b) != 1 || le.Uint16(b[2:]) != 1 || le.Uint32(b[4:]) != Rate || le.Uint16(b[14:]) != 16) {
			return nil, fmt.Errorf("a WAVE file of format %d, %d channels, %d Hz", le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b[4:]))
		}
		b = b[n:]
	}
	return nil, errors.New("a WAVE file without samples")
}
