package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of a WAVE file that is read: ten minutes at the higher rate with the headers of a generous recorder, and no more
// chunks than any has.
const (
	MaxWav       = 10*60*2*WideRate + 1<<20 // octets
	maxWavChunks = 64
)

// WideRate is the other rate a WAVE file may have, that of wide-band telephony; see ParseWav.
const WideRate = 2 * Rate

// ErrWav is wrapped by every error about what a WAVE file holds.
var ErrWav = errors.New("not a WAVE file that can be used")

func wavf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrWav, fmt.Sprintf(format, a...))
}

// Formats of the samples in a WAVE file.
const (
	wavLinear     = 1
	wavExtensible = 0xfffe // the format stands further on, in a GUID
)

const wavHead = 44 // octets before the samples

// appendWavHead writes the head of a file with so many octets of samples.
func appendWavHead(b []byte, octets uint32) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(append(b, "RIFF"...), wavHead-8+octets)
	b = le.AppendUint32(append(b, "WAVEfmt "...), 16)
	b = le.AppendUint16(b, wavLinear)
	b = le.AppendUint16(b, 1) // channel
	b = le.AppendUint32(b, Rate)
	b = le.AppendUint32(b, 2*Rate)
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, 16)
	return le.AppendUint32(append(b, "data"...), octets)
}

// Wav is a WAVE file of samples: 16 bit linear, 8000 Hz, one channel.
func Wav(samples []int16) []byte {
	return appendSamples(appendWavHead(make([]byte, 0, wavHead+2*len(samples)), uint32(2*len(samples))), samples)
}

func appendSamples(b []byte, samples []int16) []byte {
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

// ReadWav reads a WAVE file as ParseWav does, and not more of it than MaxWav.
func ReadWav(r io.Reader) ([]int16, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxWav+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > MaxWav:
		return nil, wavf("it is longer than %d octets, which is ten minutes", MaxWav)
	}
	return ParseWav(b)
}

// ParseWav reads a WAVE file of 16 bit linear samples on one channel, 8000 a second or 16000, which are then brought down to
// Rate. The length in the header is not relied on: a recorder that is still writing, or was killed, leaves 0 there, and
// the samples go to the end of the file. Errors wrap ErrWav.
func ParseWav(b []byte) ([]int16, error) {
	le := binary.LittleEndian
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return nil, wavf("it does not begin like one")
	}
	rate := 0
	b = b[12:]
	for range maxWavChunks {
		if len(b) < 8 {
			return nil, wavf("it has no samples")
		}
		id, n := string(b[:4]), le.Uint32(b[4:])
		b = b[8:]
		switch {
		case id == "data" && rate == 0:
			return nil, wavf("it does not say what its samples are")
		case id == "data":
			if n > 0 && int64(n) < int64(len(b)) {
				b = b[:n]
			}
			samples := make([]int16, 0, len(b)/2)
			for ; len(b) >= 2; b = b[2:] {
				samples = append(samples, int16(le.Uint16(b)))
			}
			if rate == WideRate {
				samples = Halve(samples)
			}
			return samples, nil
		case int64(n) > int64(len(b)):
			return nil, wavf("it ends in the middle")
		case id == "fmt ":
			var err error
			if rate, err = wavFormat(b[:n]); err != nil {
				return nil, err
			}
		}
		b = b[n:]
		if n%2 == 1 && len(b) > 0 { // chunks begin at even places
			b = b[1:]
		}
	}
	return nil, wavf("it has more than %d parts", maxWavChunks)
}

// wavFormat reads what the samples are, and gives their rate.
func wavFormat(b []byte) (rate int, err error) {
	if len(b) < 16 {
		return 0, wavf("it does not say what its samples are")
	}
	le := binary.LittleEndian
	kind, channels, hz, bits := le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b[4:]), le.Uint16(b[14:])
	if kind == wavExtensible && len(b) >= 26 {
		kind = le.Uint16(b[24:])
	}
	if kind != wavLinear || channels != 1 || hz != Rate && hz != WideRate || bits != 16 {
		return 0, wavf("it has format %d, %d channels, %d Hz, %d bits; 16 bit linear samples on one channel at 8000 or 16000 Hz are wanted", kind, channels, hz, bits)
	}
	return int(hz), nil
}

// WavWriter writes a WAVE file while the sound comes in. Until Close its head says that the length is unknown, so that
// what was recorded before a crash can be heard.
type WavWriter struct {
	w      io.WriteSeeker
	octets uint32
	buf    []byte
	err    error // the first
}

// maxWavOctets is what the lengths in a WAVE file can express; three days.
const maxWavOctets = 1<<32 - 1 - wavHead

// NewWavWriter begins a file at the start of w.
func NewWavWriter(w io.WriteSeeker) (*WavWriter, error) {
	_, err := w.Write(appendWavHead(nil, 0))
	return &WavWriter{w: w}, err
}

// Write adds samples. After an error, and after three days, it does nothing; Close tells.
func (w *WavWriter) Write(samples []int16) {
	if w.err != nil || int64(w.octets)+int64(2*len(samples)) > maxWavOctets {
		return
	}
	w.buf = appendSamples(w.buf[:0], samples)
	if _, w.err = w.w.Write(w.buf); w.err == nil {
		w.octets += uint32(len(w.buf))
	}
}

// Close writes the length into the head and gives the first error there was. It does not close what it writes to.
func (w *WavWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	if _, w.err = w.w.Seek(0, io.SeekStart); w.err == nil {
		_, w.err = w.w.Write(appendWavHead(nil, w.octets))
	}
	return w.err
}
