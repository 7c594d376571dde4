package sdp

import (
	"strings"
	"testing"
)

const plain = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n" +
	"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"

func TestParseIsFaithful(t *testing.T) {
	s, err := Parse([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(s.Marshal()); got != plain {
		t.Errorf("got:\n%s", got)
	}
	// bare line feeds, no s=, no t=, an empty line at the end
	bent := strings.NewReplacer("\r\n", "\n", "s=-\r\n", "", "t=0 0\r\n", "").Replace(plain) + "\n"
	if s, err = Parse([]byte(bent)); err != nil {
		t.Fatal(err)
	}
	if got := string(s.Marshal()); got != plain {
		t.Errorf("bent, got:\n%s", got)
	}
}
