package edge

import (
	"strings"
	"testing"
)

func TestAdmit(t *testing.T) {
	const (
		loop  = "127.0.0.1"
		other = "192.0.2.1"
	)
	for _, c := range []struct {
		name, source string
		port         int
		ask          ask
		user         string // whose right password comes with it
		status       int
		warning      string
	}{
		{name: "own user from loopback", source: loop, ask: ask{method: "INVITE", uri: "sip:bob@p2psip.example"}, status: 299},
		{name: "from ::1", source: "::1", ask: ask{method: "INVITE", uri: "sip:bob@p2psip.example"}, status: 299},
		{name: "somebody else's user", source: loop, ask: ask{method: "INVITE", from: "<sip:carol@p2psip.example>"}, status: 403, warning: "does not cover sip:carol@p2psip.example"},
		{name: "another domain", source: loop, ask: ask{method: "INVITE", from: "<sip:alice@other.example>"}, status: 403, warning: "set the phone's domain to p2psip.example"},
		{name: "an evil suffix", source: loop, ask: ask{method: "INVITE", from: "<sip:alice@evilp2psip.example>"}, status: 403},
		{name: "no user", source: loop, ask: ask{method: "INVITE", from: "<sip:p2psip.example>"}, status: 403},
		{name: "tel", source: loop, ask: ask{method: "INVITE", from: "<tel:+123>"}, status: 403},
		{name: "no password", source: other, ask: ask{method: "INVITE"}, status: 407},
		{name: "no password for a MESSAGE", source: other, ask: ask{method: "MESSAGE"}, status: 407},
		{name: "no password for OPTIONS", source: other, ask: ask{method: "OPTIONS"}, status: 407},
		{name: "password", source: other, user: "alice", ask: ask{method: "INVITE"}, status: 299},
		{name: "somebody else's password", source: other, user: "bob", ask: ask{method: "INVITE"}, status: 403, warning: "password was that of sip:bob@p2psip.example"},
		{name: "inside a dialog from loopback", source: loop, ask: ask{method: "BYE", from: "<sip:anyone@other.example>", to: "<sip:bob@p2psip.example>;tag=2"}, status: 299},
		{name: "an invented dialog with another's From", source: loop, ask: ask{method: "MESSAGE", from: "<sip:carol@p2psip.example>", to: "<sip:bob@p2psip.example>;tag=invented"}, status: 403},
		{name: "an invented dialog with a From of elsewhere", source: loop, ask: ask{method: "MESSAGE", from: "<sip:anyone@other.example>", to: "<sip:bob@p2psip.example>;tag=invented"}, status: 403},
		{name: "an invented dialog from a registered phone", source: other, port: 5062, ask: ask{method: "MESSAGE", to: "<sip:bob@p2psip.example>;tag=invented"}, status: 407},
		{name: "inside a dialog from a registered phone", source: other, port: 5062, ask: ask{method: "BYE", to: "<sip:bob@p2psip.example>;tag=2"}, status: 299},
		{name: "inside a dialog from a stranger", source: other, ask: ask{method: "BYE", to: "<sip:bob@p2psip.example>;tag=2"}, status: 407},
		{name: "inside a dialog with password", source: other, user: "alice", ask: ask{method: "BYE", to: "<sip:bob@p2psip.example>;tag=2"}, status: 299},
		{name: "a new dialog from a registered phone", source: other, port: 5062, ask: ask{method: "INVITE"}, status: 407},
	} {
		t.Run(c.name, func(t *testing.T) {
			remote(t, func(b *bench, _ *memFlow) {
				if c.port == 0 {
					c.port = 5060
				}
				reg := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example", nc: 1, nonce: b.e.digest.newNonce(lan)}
				if s := statusOf(b.send(udpFrom(other, 5062), ask{callID: "reg", lines: []string{"Contact: <sip:alice@192.0.2.1:5062>", reg.line("Authorization")}})); s != 200 {
					t.Fatal(s)
				}
				if c.ask.uri == "" {
					c.ask.uri = "sip:bob@p2psip.example"
				}
				if c.ask.to == "" {
					c.ask.to = "<sip:bob@p2psip.example>"
				}
				c.ask.callID = "call"
				pw := map[string]string{"alice": password, "bob": "another password"}[c.user]
				if c.user != "" {
					a := answerTo{user: c.user, password: pw, method: c.ask.method, uri: c.ask.uri, nc: 1, nonce: b.e.digest.newNonce(lan)}
					c.ask.lines = append(c.ask.lines, a.line("Proxy-Authorization"))
				}
				res := b.send(udpFrom(c.source, c.port), c.ask)
				if statusOf(res) != c.status || !strings.Contains(header(res, "Warning"), c.warning) {
					t.Errorf("%d %s, want %d %s", statusOf(res), header(res, "Warning"), c.status, c.warning)
				}
				if chs := header(res, "Proxy-Authenticate"); (chs != "") != (c.status == 407) {
					t.Error(chs)
				}
			})
		})
	}
}

func TestPeersAreNotAdmitted(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		f := tcpFrom("127.0.0.1", 1)
		f.peer = true
		if s := statusOf(b.send(f, ask{method: "INVITE"})); s != 403 {
			t.Error(s)
		}
	})
}
