package edge

import (
	"testing"
	"time"

	"p2psip/interwork/message"
)

// The examples of RFC 3261 §19.1.4.
func TestEqualURI(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;security=on", true},
		{"sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com", "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com", true},
		{"sip:alice@atlanta.com?subject=project%20x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=project%20x", true},
		{"SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", false},
		{"sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting", false},
		{"sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", false},
		{"sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", false},
		{"sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]", true},
		{"sips:a@b.c", "sip:a@b.c", false},
	} {
		a, err := message.ParseURI(c.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := message.ParseURI(c.b)
		if err != nil {
			t.Fatal(err)
		}
		if equalURI(a, b) != c.want || equalURI(b, a) != c.want {
			t.Errorf("%s and %s: want %v", c.a, c.b, c.want)
		}
		if c.want && uriKey(a) != uriKey(b) {
			t.Errorf("%s and %s are equal, their keys are not", c.a, c.b)
		}
	}
}

func TestQ(t *testing.T) {
	for s, want := range map[string]int{"1": 1000, "1.000": 1000, "0": 0, "0.": 0, "0.5": 500, "0.123": 123, "1.": 1000,
		"": -1, "1.001": -1, "2": -1, ".5": -1, "0.1234": -1, "-1": -1, "0.-1": -1, "01": -1, "0,5": -1} {
		got, ok := parseQ(s)
		if ok != (want >= 0) || ok && int(got) != want {
			t.Errorf("%q: %d %v", s, got, ok)
		}
		if ok {
			if back, ok := parseQ(formatQ(got)); !ok || back != got {
				t.Errorf("%d is written %s", got, formatQ(got))
			}
		}
	}
}

func TestExpires(t *testing.T) {
	for s, want := range map[string]time.Duration{"0": 0, "60": time.Minute, "": time.Hour, "-1": time.Hour, "1h": time.Hour,
		"4294967296": (1<<32 - 1) * time.Second, "0060": time.Minute} {
		if got := parseExpires(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}
