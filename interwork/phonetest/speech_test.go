package phonetest

import (
	"slices"
	"testing"
	"time"

	"p2psip/interwork/phone/audio"
)

// TestSpeech: every piece is found where it is and nowhere else, also after G.711.
func TestSpeech(t *testing.T) {
	s := Speech(1, 3*time.Second)
	if len(s) != 3*audio.Rate || !slices.Equal(s, Speech(1, 3*time.Second)) {
		t.Fatal("not the same again")
	}
	heard := audio.DecodeULaw(nil, audio.EncodeULaw(nil, s))
	for at := 0; at+audio.Rate/2 <= len(s); at += audio.Rate {
		piece := s[at : at+audio.Rate/2]
		if match, where := audio.Match(piece, heard); match < 0.99 || where != at {
			t.Errorf("the piece at %d is found at %d, to %.3f", at, where, match)
		}
	}
	if match, _ := audio.Match(s[:audio.Rate], Speech(2, 3*time.Second)); match > 0.5 {
		t.Errorf("another speaker sounds alike to %.3f", match)
	}
}
