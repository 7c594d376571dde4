package media

import (
	"bytes"
	"fmt"
	"testing"
)

func TestWindowTakesEachNumberOnce(t *testing.T) {
	var w window
	for _, c := range []struct {
		seq uint16
		ok  bool
	}{
		{65530, true}, {65530, false}, {65531, true}, {65535, true}, {0, true}, {65533, true}, {65533, false},
		{0, false}, {1, true}, {200, true}, {1, false}, {137, true}, {137, false}, {136, false}, {199, true}, {201, true},
	} {
		if got := w.take(c.seq); got != c.ok {
			t.Errorf("take(%d) = %v, want %v", c.seq, got, c.ok)
		}
	}
}

// sealed makes both ends of one direction.
func sealed(t testing.TB) (*sealer, *opener) {
	t.Helper()
	k, ok := secretOf(newCrypto(1, "AEAD_AES_128_GCM"))
	if !ok {
		t.Fatal("no such suite")
	}
	out, err := newSealer(k)
	if err != nil {
		t.Fatal(err)
	}
	in, err := newOpener(k)
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

// No packet number is used twice, and yet a phone that counts anew is heard after a moment.
func TestSealerNeverUsesANumberTwice(t *testing.T) {
	out, in := sealed(t)
	send := func(seq uint16, word string) bool {
		b, err := out.seal(nil, append(rtpPacket(seq, 0, 7, 0), word...), false)
		if err != nil {
			return false
		}
		got, err := in.open(b, false)
		return err == nil && bytes.HasSuffix(got, []byte(word))
	}
	for i := range uint16(200) {
		if !send(5000+i, "first") {
			t.Fatalf("packet %d is lost", i)
		}
	}
	if send(5199, "forged") || send(5100, "forged") {
		t.Error("a number is used twice")
	}
	if !send(5200, "goes on") {
		t.Error("a forged packet stops the source")
	}
	heard := 0
	for i := range uint16(50) {
		if send(5000+i, fmt.Sprint("anew ", i)) {
			heard++
		}
	}
	if heard != 50-beginsAnew+1 {
		t.Errorf("%d of 50 packets are heard", heard)
	}
}

// Forged sources fill no memory, and do not stop those that are known.
func TestOpenerForgetsForgedSources(t *testing.T) {
	out, in := sealed(t)
	seq := uint16(0)
	good := func() bool {
		seq++
		b, err := out.seal(nil, append(rtpPacket(seq, 0, 7, 0), "good"...), false)
		if err != nil {
			t.Fatal(err)
		}
		_, err = in.open(b, false)
		return err == nil
	}
	if !good() {
		t.Fatal("not heard")
	}
	for i := range uint32(5000) {
		if _, err := in.open(rtpPacket(1, 0, 1000+i, 60), false); err == nil {
			t.Fatal("a forged packet is taken")
		}
	}
	if !good() || len(in.known) != 1 || in.tried > maxSources {
		t.Errorf("known %d, tried %d", len(in.known), in.tried)
	}
}

// A source that rolls over in what the far side does not get is heard all the same.
func TestOpenerJoinsAfterARollOver(t *testing.T) {
	for _, missed := range []int{0, 1, 2, 5} {
		out, in := sealed(t)
		heard := 0
		for i := range 40 {
			b, err := out.seal(nil, rtpPacket(uint16(65534+i), 0, 7, 20), false)
			if err != nil {
				t.Fatal(err)
			}
			if i < missed {
				continue
			}
			if _, err := in.open(b, false); err == nil {
				heard++
			}
		}
		if heard != 40-missed {
			t.Errorf("%d missed, %d of 40 heard", missed, heard)
		}
	}
}
