package audio

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// file makes a WAVE file of any kind.
func file(format, channels uint16, rate uint32, bits uint16, samples []int16, chunks ...string) []byte {
	le := binary.LittleEndian
	b := []byte("RIFF\x00\x00\x00\x00WAVE")
	for _, c := range chunks {
		b = append(b, c...)
	}
	b = le.AppendUint32(append(b, "fmt "...), 16)
	b = le.AppendUint16(le.AppendUint16(b, format), channels)
	b = le.AppendUint32(le.AppendUint32(b, rate), rate*2)
	b = le.AppendUint16(le.AppendUint16(b, 2), bits)
	b = le.AppendUint32(append(b, "data"...), uint32(2*len(samples)))
	return appendSamples(b, samples)
}

func TestWavKinds(t *testing.T) {
	tone := (&Tone{Hz: 440}).Next(nil, Rate)
	for name, b := range map[string][]byte{
		"plain":        file(1, 1, 8000, 16, tone),
		"with a list":  file(1, 1, 8000, 16, tone, "LIST\x04\x00\x00\x00abcd"),
		"odd chunk":    file(1, 1, 8000, 16, tone, "LIST\x03\x00\x00\x00abc\x00"),
		"length lies":  append(file(1, 1, 8000, 16, nil), file(1, 1, 8000, 16, tone)[44:]...),
		"longer yet":   append(append(file(1, 1, 8000, 16, nil)[:40], 0xff, 0xff, 0xff, 0xff), file(1, 1, 8000, 16, tone)[44:]...),
		"half a frame": append(file(1, 1, 8000, 16, tone), 7),
	} {
		got, err := ParseWav(b)
		if err != nil || len(got) != len(tone) || got[100] != tone[100] {
			t.Errorf("%s: %d samples, %v", name, len(got), err)
		}
	}
	for name, b := range map[string][]byte{
		"empty":      {},
		"text":       []byte("this is no sound at all"),
		"stereo":     file(1, 2, 8000, 16, tone),
		"44100":      file(1, 1, 44100, 16, tone),
		"8 bits":     file(1, 1, 8000, 8, tone),
		"mp3":        file(0x55, 1, 8000, 16, tone),
		"no format":  append([]byte("RIFF\x00\x00\x00\x00WAVEdata\x04\x00\x00\x00"), 1, 2, 3, 4),
		"no samples": file(1, 1, 8000, 16, tone)[:36],
		"cut off":    file(1, 1, 8000, 16, tone, "LIST\xff\xff\xff\x7fabcd"),
	} {
		if _, err := ParseWav(b); !errors.Is(err, ErrWav) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = "junk\x00\x00\x00\x00"
	}
	if _, err := ParseWav(file(1, 1, 8000, 16, tone, many...)); !errors.Is(err, ErrWav) {
		t.Errorf("a hundred chunks: %v", err)
	}
}

// endless never comes to an end.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) { e.n += len(b); return len(b), nil }

func TestReadWavIsBounded(t *testing.T) {
	e := &endless{}
	if _, err := ReadWav(e); !errors.Is(err, ErrWav) || e.n > 2*MaxWav {
		t.Errorf("%d octets read: %v", e.n, err)
	}
}

func TestHalve(t *testing.T) {
	for hz, want := range map[float64]float64{300: 1, 1000: 1, 3000: 1, 3300: 1, 4700: 0, 5000: 0, 7000: 0} {
		wide := make([]int16, WideRate)
		for i := range wide {
			wide[i] = int16(10000 * math.Sin(2*math.Pi*hz*float64(i)/WideRate))
		}
		narrow, err := ParseWav(file(1, 1, WideRate, 16, wide))
		if err != nil || len(narrow) != Rate {
			t.Fatalf("%d samples, %v", len(narrow), err)
		}
		energy := 0.0
		for _, s := range narrow[200 : Rate-200] {
			energy += float64(s) * float64(s)
		}
		if got := math.Sqrt(2*energy/(Rate-400)) / 10000; math.Abs(got-want) > 0.03 {
			t.Errorf("%v Hz comes out at %.3f, want %v", hz, got, want)
		}
		if heard := Listen(narrow); want == 1 && !heard.Is(hz) {
			t.Errorf("%v Hz sounds like %+v", hz, heard)
		}
	}
}

func TestWavWriter(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.wav")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWavWriter(f)
	if err != nil {
		t.Fatal(err)
	}
	tone := (&Tone{Hz: 440}).Next(nil, 1000)
	read := func() []int16 {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseWav(b)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for i := 0; i < len(tone); i += 100 {
		w.Write(tone[i : i+100])
	}
	if got := read(); len(got) != len(tone) { // as after a crash
		t.Errorf("unfinished: %d samples", len(got))
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if got := read(); len(got) != len(tone) || got[999] != tone[999] {
		t.Errorf("finished: %d samples", len(got))
	}
	f.Close()
	w.Write(tone)
	if err := w.Close(); err == nil {
		t.Error("a closed file takes samples")
	}
	if _, err := NewWavWriter(struct{ io.WriteSeeker }{f}); err == nil {
		t.Error("a closed file takes a head")
	}
}

func TestMatch(t *testing.T) {
	tone := (&Tone{Hz: 440}).Next(nil, 800)
	sweep := make([]int16, 3000)
	for i := range sweep {
		sweep[i] = int16(8000 * math.Sin(float64(i)*float64(i)/4000))
	}
	quiet := make([]int16, 1000)
	for i, s := range sweep[500:1500] {
		quiet[i] = s / 4
	}
	if c, at := Match(sweep[1000:1500], quiet); c < 0.99 || at != 500 {
		t.Errorf("softer: %.3f at %d", c, at)
	}
	if c, _ := Match(tone, sweep); c > 0.5 {
		t.Errorf("something else matches by %.3f", c)
	}
	for name, pair := range map[string][2][]int16{"nothing": {nil, sweep}, "too short": {sweep, tone}, "silence": {make([]int16, 10), sweep}, "heard silence": {tone, make([]int16, 2000)}} {
		if c, _ := Match(pair[0], pair[1]); c != 0 {
			t.Errorf("%s: %.3f", name, c)
		}
	}
}

func TestALaw(t *testing.T) {
	for c := range 256 {
		if back := EncodeALaw(nil, DecodeALaw(nil, []byte{byte(c)}))[0]; back != byte(c) {
			t.Errorf("code %#02x comes back as %#02x", c, back)
		}
	}
	// Values of ITU-T G.711 table 1a, scaled to 16 bit.
	for v, want := range map[int16]byte{0: 0xd5, 8: 0xd5, -8: 0x55, 32256: 0xaa, -32256: 0x2a, math.MaxInt16: 0xaa, math.MinInt16: 0x2a} {
		if got := EncodeALaw(nil, []int16{v})[0]; got != want {
			t.Errorf("%d encodes to %#02x, want %#02x", v, got, want)
		}
	}
	for v := math.MinInt16; v <= math.MaxInt16; v++ {
		got := int(DecodeALaw(nil, EncodeALaw(nil, []int16{int16(v)}))[0])
		if d := math.Abs(float64(got - v)); d > math.Abs(float64(v))/16+16 {
			t.Fatalf("%d came back as %d", v, got)
		}
	}
}

func FuzzWav(f *testing.F) {
	tone := (&Tone{Hz: 440}).Next(nil, 40)
	f.Add(file(1, 1, 8000, 16, tone))
	f.Add(file(1, 1, 16000, 16, tone, "LIST\x03\x00\x00\x00abc\x00"))
	f.Add(file(1, 2, 44100, 24, tone))
	f.Add([]byte("RIFF\xff\xff\xff\xffWAVEfmt \x28\x00\x00\x00\xfe\xff\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00\x16\x00\x10\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71data\x02\x00\x00\x00\x01\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		samples, err := ParseWav(b)
		if err == nil && len(samples) > len(b) {
			t.Errorf("%d samples of %d octets", len(samples), len(b))
		}
		if err != nil && !errors.Is(err, ErrWav) {
			t.Error(err)
		}
	})
}
