package proxy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction/transactiontest"
)

// FuzzCore hands messages to a core as a phone and as another node would, in the order given by two cuts of the input.
// Whatever they are, nothing may panic, and what leaves has to be SIP.
func FuzzCore(f *testing.F) {
	files, err := filepath.Glob("../message/testdata/corpus/*/*.dat")
	if err != nil || len(files) == 0 {
		f.Fatal("no corpus", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b, b)
	}
	invite := []byte("INVITE sip:bob@p2psip.example SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.9:6000;branch=z9hG4bK1\r\nFrom: <sip:alice@p2psip.example>;tag=a\r\n" +
		"To: <sip:bob@p2psip.example>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nRoute: <sip:127.0.0.1:5060;lr>, <sip:p2psip.example;lr>\r\nMax-Breadth: 1\r\nContent-Length: 0\r\n\r\n")
	ack := []byte("ACK sip:127.0.0.1:5060;lr SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.9:6000;branch=z9hG4bK1\r\nFrom: <sip:alice@p2psip.example>;tag=a\r\n" +
		"To: <sip:bob@p2psip.example>;tag=b\r\nCall-ID: 1\r\nCSeq: 1 ACK\r\nRoute: <sip:bob@127.0.0.3:7000>\r\nContent-Length: 0\r\n\r\n")
	cancel := []byte("CANCEL sip:bob@p2psip.example SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.9:6000;branch=z9hG4bK1\r\nFrom: <sip:alice@p2psip.example>;tag=a\r\n" +
		"To: <sip:bob@p2psip.example>\r\nCall-ID: 1\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n")
	f.Add(invite, ack, cancel)
	f.Add(invite, cancel, ack)

	own := flow.Addr{Host: "127.0.0.1", Port: 5060}
	f.Fuzz(func(t *testing.T, one, two, three []byte) {
		alice := transactiontest.New(flow.TransportUDP, own, flow.Addr{Host: "127.0.0.9", Port: 6000})
		bob := transactiontest.New(flow.TransportTCP, own, flow.Addr{Host: "127.0.0.3", Port: 7000})
		node := transactiontest.New(flow.TransportP2P, flow.Addr{Host: "x"}, flow.Addr{Host: "y"})
		fx := &fixed{target: Target{URI: sip.Uri{Scheme: "sip", User: "bob", Host: "127.0.0.3", Port: 7000}, Q: 1000, Flow: bob, ID: "d"},
			sockets: pair{alice, bob}}
		c := benchCore(t, fx, own)
		for _, b := range [][]byte{one, two, three} {
			for _, from := range []flow.Flow{alice, node, bob} {
				if m, err := message.Parse(b, true); err == nil { // each its own: a message belongs to one handler
					c.Layer().HandleMessage(from, m)
				}
			}
		}
		c.Close()
		if s := c.Stats(); s.Panics+s.Transactions.Panics != 0 {
			t.Error("a panic")
		}
		for _, f := range []*transactiontest.Flow{alice, bob, node} {
			f.Take() // panics on what does not parse
		}
	})
}
