package edge

import (
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{
		`Digest username="alice", realm="p2psip.example", nonce="n", uri="sip:p2psip.example", response="00000000000000000000000000000000"`,
		`Digest username="a\"b", realm="p2psip.example", nonce="n", uri="sip:p2psip.example", response="00000000000000000000000000000000", algorithm=MD5, cnonce="c", qop=auth, nc=00000001`,
		`Digest username="alice", realm="p2psip.example", nonce="n", uri="sip:p2psip.example", response="0000000000000000000000000000000000000000000000000000000000000000", algorithm=SHA-256, cnonce="c", qop="auth", nc=ffffffff, userhash=true`,
		`NoOneKnowsThisScheme opaque-data=here`, `Digest x="\`, `Digest =`, "Digest\ta=b",
	} {
		f.Add(s)
	}
	d := newDigest(oid, time.Now)
	alice, err := oid.AOR("alice")
	if err != nil {
		f.Fatal(err)
	}
	u := newUser(alice, password, DigestBoth, time.Unix(0, 0))
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseAuthorization(s)
		if err != nil {
			return
		}
		if len(s) > maxAuthorization || c.QOP != "" && c.NC == 0 || c.Response != strings.ToLower(c.Response) {
			t.Fatalf("%q gave %+v", s, c)
		}
		_, v := d.check(c, lan, "REGISTER", "sip:p2psip.example", func(name string) (User, bool) { return u, name == "alice" })
		if v == confirmed || v == stale {
			t.Fatalf("%q passed without the password", s)
		}
	})
}

func FuzzContact(f *testing.F) {
	for _, s := range []string{
		"*", "<sip:alice@127.0.0.1:5070>", `"A" <sip:alice@[::1];transport=tcp>;q=0.5;expires=60;+sip.instance="<urn:uuid:1>"`,
		"sip:a@b, <sips:c@d?Route=%3Csip:x%3E>;expires=0", "<sip:a@b>;expires=99999999999;q=1.001", "<tel:1>", "*, <sip:a@b>",
	} {
		f.Add(s, "3600")
	}
	f.Fuzz(func(t *testing.T, contact, expires string) {
		if len(contact) > 4096 || strings.ContainsAny(contact+expires, "\r\n") {
			return
		}
		raw := "REGISTER sip:p2psip.example SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:alice@p2psip.example>;tag=1\r\n" +
			"To: <sip:alice@p2psip.example>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\nContact: " + contact + "\r\nExpires: " + expires + "\r\n\r\n"
		m, err := message.Parse([]byte(raw), true)
		if err != nil {
			return
		}
		claims, all, bad := readClaims(m.(*sip.Request), time.Hour, 10)
		if bad != nil {
			if bad.status < 400 || bad.status > 499 {
				t.Fatalf("%q: %v", contact, bad)
			}
			return
		}
		if all && len(claims) > 0 || len(claims) > 20 {
			t.Fatalf("%q: %d claims, all %v", contact, len(claims), all)
		}
		for i := range claims {
			c := &claims[i]
			if c.q > 1000 || c.expires < 0 {
				t.Fatalf("%q: %+v", contact, c)
			}
			alice, err := oid.AOR("alice")
			if err != nil {
				t.Fatal(err)
			}
			// What is listed, and stored, has to be read back the same.
			p := &phone{id: deviceID([]byte("k"), alice, c), claim: *c, until: time.Unix(3600, 0)}
			if !strings.HasPrefix(p.id, "urn:") || len(p.id) > maxInstance {
				t.Fatal(p.id)
			}
			req := sip.NewRequest(sip.REGISTER, sip.Uri{})
			v := p.header(time.Unix(0, 0)).Value()
			req.AppendHeader(sip.NewHeader("Contact", v))
			hs := message.Contacts(req)
			if len(hs) != 1 {
				t.Fatalf("%q is listed as %q, which cannot be read", contact, v)
			}
			back, r := readClaim(hs[0])
			if r != nil || back.q != c.q || back.instance != c.instance || !equalURI(back.uri, c.uri) {
				t.Fatalf("%q is listed as %q, read back as %+v (%v)", contact, v, back, r)
			}
		}
	})
}
