package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
	"p2psip/interwork/transaction/transactiontest"
	"p2psip/overlay"
)

// BenchmarkCall is the cost of one call through one node: INVITE 100 180 200 ACK BYE 200, six messages in and seven out.
//
//	memory    the core alone, reading and writing messages but no sockets; the ends' share is in it: putting texts together
//	udp, tcp  a node in a process of its own between two ends on loopback; cpu-µs/call and allocs/call are that process's
//	border, border-tcp
//	          as udp and tcp, but the node is a proxy peer and the caller outside the overlay
//	kamailio, kamailio-tcp, kamailio-border, kamailio-border-tcp
//	          the same calls through the node and through a Kamailio that records its route and keeps transactions, in
//	          turns; cpu-µs/call is the node's, kamailio-cpu-µs/call the other's, ours/kamailio the ratio
//
// ns/op of all but the first has the two ends in it, which share the machine; compare the CPU times.
func BenchmarkCall(b *testing.B) {
	b.Run("memory", benchMemory)
	b.Run("udp", func(b *testing.B) { benchNode(b, "udp") })
	b.Run("tcp", func(b *testing.B) { benchNode(b, "tcp") })
	b.Run("border", func(b *testing.B) { benchNode(b, "border") })
	b.Run("border-tcp", func(b *testing.B) { benchNode(b, "border-tcp") })
	b.Run("kamailio", func(b *testing.B) { benchKamailio(b, "udp") })
	b.Run("kamailio-tcp", func(b *testing.B) { benchKamailio(b, "tcp") })
	b.Run("kamailio-border", func(b *testing.B) { benchKamailio(b, "border") })
	b.Run("kamailio-border-tcp", func(b *testing.B) { benchKamailio(b, "border-tcp") })
}

// fixed is everything around a core: one binding, no overlay.
type fixed struct {
	mu      sync.Mutex // guards target
	target  Target
	sockets Sockets
}

func (f *fixed) phone() Target {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.target
}

// reached sets the flow to the phone.
func (f *fixed) reached(to flow.Flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target.Flow = to
}

func (f *fixed) Admit(*transaction.Server, *sip.Request, bool) bool { return true }
func (f *fixed) Register(*transaction.Server, *sip.Request)         {}
func (f *fixed) Bindings(overlay.AOR) []Target                      { return []Target{f.phone()} }
func (f *fixed) Owns(overlay.AOR) bool                              { return true }
func (f *fixed) Contact(sip.Uri) (Target, bool)                     { return f.phone(), true }
func (f *fixed) Locate(context.Context, overlay.AOR) Search         { return &scripted{} }
func (f *fixed) Living(overlay.NodeID) (flow.Flow, bool)            { return nil, false }
func (f *fixed) Flow(e Endpoint) (flow.Flow, bool)                  { return f.sockets.Flow(e) }

type noPeers struct{}

func (noPeers) Living(overlay.NodeID) (flow.Flow, bool) { return nil, false }
func (noPeers) Flow(context.Context, overlay.NodeID, []string) (flow.Flow, error) {
	return nil, io.EOF
}

func benchCore(tb testing.TB, f *fixed, own ...flow.Addr) *Core {
	c, err := New(Config{
		OID: oid, NodeName: overlay.NodeName(nodeID(tb, 1), oid), Secret: bytes.Repeat([]byte{1}, 32), Own: own,
		Edge: f, Sockets: f, Locator: f, Peers: noPeers{}, Logger: slog.New(slog.DiscardHandler),
		Limits: Limits{Lookups: 4 * benchWindow, LookupsPerHost: 4 * benchWindow}, // all calls are of one host
		// Short lives, so that a benchmark does not measure a table of all calls of the last 32 s.
		Transactions: transaction.Options{Timers: transaction.Timers{T1: 50 * time.Millisecond}, MaxServer: 1 << 20, MaxSource: 1 << 20, MaxClient: 1 << 20},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// The texts of the two ends. The GRUU names the one device, so that no lookup is started.
const (
	benchInvite = "INVITE sip:bob@p2psip.example;gr=d SIP/2.0\r\nVia: SIP/2.0/%[5]s %[1]s;branch=z9hG4bKi%[2]d;rport\r\nMax-Forwards: 70\r\n" +
		"From: \"Alice\" <sip:alice@p2psip.example>;tag=a%[2]d\r\nTo: <sip:bob@p2psip.example>\r\nCall-ID: call-%[2]d@phone\r\nCSeq: 1 INVITE\r\n" +
		"Contact: <sip:alice@%[1]s>\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE\r\nSupported: replaces, timer\r\nUser-Agent: bench\r\n" +
		"Content-Type: application/sdp\r\nContent-Length: %[3]d\r\n\r\n%[4]s"
	benchSDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\n" +
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
)

// field gives the lines of a header as they stand, CRLF included.
func field(m []byte, name string) (out []byte) {
	head := m
	if i := bytes.Index(m, []byte("\r\n\r\n")); i >= 0 {
		head = m[:i+2]
	}
	for len(head) > 0 {
		i := bytes.Index(head, []byte("\r\n"))
		if i < 0 {
			break
		}
		if bytes.HasPrefix(head, []byte(name)) && len(head) > len(name) && head[len(name)] == ':' {
			out = append(out, head[:i+2]...)
		}
		head = head[i+2:]
	}
	return out
}

// uasReply answers what arrived at the callee.
func uasReply(m []byte, status string, local string) []byte {
	var b bytes.Buffer
	b.WriteString("SIP/2.0 " + status + "\r\n")
	b.Write(field(m, "Via"))
	b.Write(field(m, "Record-Route"))
	b.Write(field(m, "From"))
	to := bytes.TrimSuffix(field(m, "To"), []byte("\r\n"))
	b.Write(to)
	if !bytes.Contains(to, []byte(";tag=")) {
		b.WriteString(";tag=b")
	}
	b.WriteString("\r\n")
	b.Write(field(m, "Call-ID"))
	b.Write(field(m, "CSeq"))
	b.WriteString("Contact: <sip:bob@" + local + ">\r\n")
	if strings.HasPrefix(status, "200") && bytes.HasPrefix(m, []byte("INVITE")) {
		fmt.Fprintf(&b, "Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(benchSDP), benchSDP)
	} else {
		b.WriteString("Content-Length: 0\r\n\r\n")
	}
	return b.Bytes()
}

// uacNext makes the ACK or BYE from the 200.
func uacNext(ok []byte, method, transport, branch, local, remote string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s sip:bob@%s SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\n", method, remote, transport, local, branch)
	rr := bytes.SplitAfter(field(ok, "Record-Route"), []byte("\r\n"))
	for i := len(rr) - 1; i >= 0; i-- {
		if len(rr[i]) > 0 {
			b.WriteString("Route" + strings.TrimPrefix(string(rr[i]), "Record-Route"))
		}
	}
	b.Write(field(ok, "From"))
	b.Write(field(ok, "To"))
	b.Write(field(ok, "Call-ID"))
	seq := "1 "
	if method == "BYE" {
		seq = "2 "
	}
	b.WriteString("CSeq: " + seq + method + "\r\nContent-Length: 0\r\n\r\n")
	return b.Bytes()
}

func benchMemory(b *testing.B) {
	own := flow.Addr{Host: "127.0.0.1", Port: 5060}
	alice := transactiontest.New(flow.TransportUDP, own, flow.Addr{Host: "127.0.0.2", Port: 6000})
	bob := transactiontest.New(flow.TransportUDP, own, flow.Addr{Host: "127.0.0.3", Port: 7000})
	f := &fixed{target: Target{URI: sip.Uri{Scheme: "sip", User: "bob", Host: "127.0.0.3", Port: 7000}, Q: 1000, Flow: bob, ID: "d"}}
	f.sockets = pair{alice, bob}
	c := benchCore(b, f, own)
	defer c.Close()
	var toAlice, toBob []byte
	alice.Hook(func(m []byte) { toAlice = m })
	bob.Hook(func(m []byte) { toBob = m })
	in := func(f flow.Flow, raw []byte) {
		m, err := message.Parse(raw, true)
		if err != nil {
			b.Fatal(err)
		}
		c.Layer().HandleMessage(f, m)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		in(alice, fmt.Appendf(nil, benchInvite, "127.0.0.2:6000", n, len(benchSDP), benchSDP, "UDP"))
		inv := toBob
		in(bob, uasReply(inv, "180 Ringing", "127.0.0.3:7000"))
		in(bob, uasReply(inv, "200 OK", "127.0.0.3:7000"))
		ok := toAlice
		in(alice, uacNext(ok, "ACK", "UDP", fmt.Sprintf("a%d", n), "127.0.0.2:6000", "127.0.0.3:7000"))
		in(alice, uacNext(ok, "BYE", "UDP", fmt.Sprintf("b%d", n), "127.0.0.2:6000", "127.0.0.3:7000"))
		in(bob, uasReply(toBob, "200 OK", "127.0.0.3:7000"))
		if !bytes.HasPrefix(toAlice, []byte("SIP/2.0 200")) || !bytes.Contains(toAlice, []byte("BYE")) {
			b.Fatalf("the call did not end:\n%s", toAlice)
		}
	}
}

// pair is the two ends of benchMemory as Sockets.
type pair [2]*transactiontest.Flow

func (p pair) Flow(e Endpoint) (flow.Flow, bool) {
	for _, f := range p {
		if f.To == e.Remote {
			return f, true
		}
	}
	return nil, false
}
