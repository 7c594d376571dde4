package overlay_test

import (
	"errors"
	"strings"
	"testing"

	"p2psip/overlay"
)

func TestParseID(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, c := range []struct {
		in       string
		isolated bool
		want     string // "" means refused
		why      string // part of the error
	}{
		{"p2psip.example", false, "p2psip.example", ""},
		{"P2PSIP.Example.", false, "p2psip.example", ""},
		{"xn--bcher-kva.example", false, "xn--bcher-kva.example", ""},
		{"village", true, "village", ""},
		{"village", false, "", "declare the overlay isolated"},
		{"192.0.2.1", false, "", "IP address"},
		{"192.0.2.1", true, "", "IP address"},
		{"[2001:db8::1]", false, "", "IP address"},
		{"2001:db8::1", false, "", "IP address"},
		{"1.2.3", false, "", "digits only"},
		{"", false, "", "empty"},
		{".", false, "", "empty"},
		{"a..example", false, "", "empty label"},
		{"-a.example", false, "", "hyphen"},
		{"a-.example", false, "", "hyphen"},
		{"ä.example", false, "", "does not belong"},
		{"a b.example", false, "", "does not belong"},
		{"sip:p2psip.example", false, "", "does not belong"},
		{"user@p2psip.example", false, "", "does not belong"},
		{long + "a.example", false, "", "63"},
		{strings.Repeat(long+".", 4) + "example", false, "", "253"},
	} {
		id, err := overlay.ParseID(c.in, c.isolated)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("ParseID(%q, %v) = %q, want an error", c.in, c.isolated, id)
		case c.want == "" && (!errors.Is(err, overlay.ErrBadID) || !strings.Contains(err.Error(), c.why)):
			t.Errorf("ParseID(%q, %v): %v, want something with %q", c.in, c.isolated, err, c.why)
		case c.want != "" && (err != nil || string(id) != c.want):
			t.Errorf("ParseID(%q, %v) = %q, %v, want %q", c.in, c.isolated, id, err, c.want)
		}
	}
}

// The table of malformed user identifiers that R40 and R41 ask for.
func TestParseAOR(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"sip:bob@p2psip.example", "sip:bob@p2psip.example"},
		{"SIP:bob@P2PSIP.example", "sip:bob@p2psip.example"},
		{"sip:%62ob@p2psip.example", "sip:bob@p2psip.example"},
		{"sip:a%20b@p2psip.example", "sip:a%20b@p2psip.example"},
		{"sip:a%c3%a4@p2psip.example", "sip:a%C3%A4@p2psip.example"},
		{"sip:+49-30(5)@p2psip.example", "sip:+49-30(5)@p2psip.example"},
		{"sip:Bob@p2psip.example", "sip:Bob@p2psip.example"},
		{"sip:p2psip.example", ""},
		{"sip:@p2psip.example", ""},
		{"sips:bob@p2psip.example", ""},
		{"tel:+4930123", ""},
		{"bob@p2psip.example", ""},
		{"sip:bob", ""},
		{"sip:bob@", ""},
		{"sip:bob@192.0.2.1", ""},
		{"sip:bob@p2psip.example:5060", ""},
		{"sip:bob@p2psip.example;user=phone", ""},
		{"sip:bob@p2psip.example?Subject=x", ""},
		{"sip:bob:secret@p2psip.example", ""},
		{"sip:bob%@p2psip.example", ""},
		{"sip:bob%4@p2psip.example", ""},
		{"sip:bob%zz@p2psip.example", ""},
		{"sip:b ob@p2psip.example", ""},
		{"sip:b\x00ob@p2psip.example", ""},
		{"sip:b\"ob@p2psip.example", ""},
		{"sip:bob<x>@p2psip.example", ""},
		{"sip:bö@p2psip.example", ""},
		{"sip:" + strings.Repeat("a", 129) + "@p2psip.example", ""},
		{"", ""},
	} {
		a, err := overlay.ParseAOR(c.in)
		switch {
		case c.want == "" && !errors.Is(err, overlay.ErrBadAOR):
			t.Errorf("ParseAOR(%q) = %q, %v, want ErrBadAOR", c.in, a, err)
		case c.want != "" && (err != nil || a.String() != c.want):
			t.Errorf("ParseAOR(%q) = %q, %v, want %q", c.in, a, err, c.want)
		}
	}
	a, _ := overlay.ParseAOR("sip:%62ob@P2PSIP.example")
	b, _ := overlay.ParseAOR("sip:bob@p2psip.example")
	if a != b {
		t.Error("two spellings of one address differ")
	}
}

func TestNodeName(t *testing.T) {
	key, err := overlay.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	n, err := overlay.NodeOfKey(key)
	if err != nil {
		t.Fatal(err)
	}
	name := overlay.NodeName(n, "p2psip.example")
	if label, _, _ := strings.Cut(name, "."); len(label) > 63 {
		t.Errorf("the label of %s is too long for the DNS", name)
	}
	for _, s := range []string{name, strings.ToUpper(name), name + "."} {
		if got, ok := overlay.ParseNodeName(s, "p2psip.example"); !ok || got != n {
			t.Errorf("ParseNodeName(%q) = %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "p2psip.example", "alice.p2psip.example", "k.p2psip.example", strings.Replace(name, "p2psip", "other", 1), "x" + name, "a." + name} {
		if _, ok := overlay.ParseNodeName(s, "p2psip.example"); ok {
			t.Errorf("ParseNodeName(%q) took it for a node", s)
		}
	}
}
