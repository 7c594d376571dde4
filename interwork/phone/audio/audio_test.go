package audio

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestULaw(t *testing.T) {
	// Every code is what its own value is encoded to; the two zeros share one.
	for c := range 256 {
		v := DecodeULaw(nil, []byte{byte(c)})
		back := EncodeULaw(nil, v)[0]
		if back != byte(c) && !(c == 0x7f && back == 0xff) {
			t.Errorf("code %#02x is %d, which encodes to %#02x", c, v[0], back)
		}
	}
	// Values of ITU-T G.711 table 2a, scaled to 16 bit.
	for v, want := range map[int16]byte{0: 0xff, 32124: 0x80, -32124: 0x00, math.MaxInt16: 0x80, math.MinInt16: 0x00} {
		if got := EncodeULaw(nil, []int16{v})[0]; got != want {
			t.Errorf("%d encodes to %#02x, want %#02x", v, got, want)
		}
	}
	for v := math.MinInt16; v <= math.MaxInt16; v++ {
		got := int(DecodeULaw(nil, EncodeULaw(nil, []int16{int16(v)}))[0])
		if d := math.Abs(float64(got - v)); d > math.Abs(float64(v))/16+8 && v > -32000 && v < 32000 {
			t.Fatalf("%d came back as %d", v, got)
		}
	}
}

func TestListen(t *testing.T) {
	for _, hz := range []float64{300, 440, 697, 1000, 1004, 1633, 3000} {
		for _, n := range []int{FrameLength * 5, Rate / 4, Rate} {
			tone := Tone{Hz: hz}
			heard := Listen(DecodeULaw(nil, EncodeULaw(nil, tone.Next(nil, n))))
			if !heard.Is(hz) {
				t.Errorf("%v Hz, %d samples: heard %+v", hz, n, heard)
			}
			if heard.Is(hz + 40) {
				t.Errorf("%v Hz passes for %v", hz, hz+40)
			}
		}
	}
	noise := make([]int16, Rate)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = int16(r.IntN(20000) - 10000)
	}
	if s := Listen(noise); s.Share > 0.2 {
		t.Errorf("noise passes for %+v", s)
	}
	if s := Listen(make([]int16, Rate)); s != (Sound{}) {
		t.Errorf("silence is %+v", s)
	}
	if s := Listen(nil); s != (Sound{}) {
		t.Errorf("nothing is %+v", s)
	}
}

func TestToneIsContinuous(t *testing.T) {
	whole, pieces := Tone{Hz: 440}, Tone{Hz: 440}
	want := whole.Next(nil, 3*Rate)
	var got []int16
	for range 3 * 50 {
		got = pieces.Next(got, FrameLength)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("sample %d is %d, want %d", i, got[i], want[i])
		}
	}
}

func TestWav(t *testing.T) {
	in := (&Tone{Hz: 440}).Next(nil, 1000)
	b := Wav(in)
	for name, b := range map[string][]byte{
		"whole":          b,
		"length unknown": append(append(append([]byte{}, b[:40]...), 0, 0, 0, 0), b[44:]...),
	} {
		out, err := ParseWav(b)
		if err != nil || len(out) != len(in) || out[999] != in[999] {
			t.Errorf("%s: %d samples, %v", name, len(out), err)
		}
	}
	for n := range 43 {
		if _, err := ParseWav(b[:n]); err == nil {
			t.Errorf("%d bytes pass for a file", n)
		}
	}
}
