package proxy

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// The fakes read GRUUs as edge does: a public one names a device by its gr value; tgruu.<node's label> is a temporary one
// of that node's first phone.

func (n *node) GRUU(aor overlay.AOR, f flow.Flow, contact sip.Uri) (sip.Uri, bool) {
	for _, t := range n.Bindings(aor) {
		if t.Flow == f {
			return sip.Uri{Scheme: "sip", User: aor.User(), Host: string(oid), UriParams: sip.HeaderParams{{K: "gr", V: t.ID}}}, true
		}
	}
	return sip.Uri{}, false
}

func (n *node) ReadGRUU(uri sip.Uri) (GRUU, bool) {
	if label, ok := strings.CutPrefix(uri.User, "tgruu."); ok {
		id, ok := overlay.ParseNodeName(label+"."+string(oid), oid)
		if !ok || id != n.id {
			return GRUU{Node: id}, ok
		}
		for aor, ts := range n.bindings {
			return GRUU{AOR: aor, Device: ts[0].ID, Known: true, Local: true}, true
		}
		return GRUU{}, false
	}
	aor, err := oid.AOR(uri.User)
	if err != nil {
		return GRUU{}, false
	}
	id, _ := param(&uri, "gr")
	return GRUU{AOR: aor, Device: id, Known: n.known[id]}, true
}

func (f *fixed) GRUU(overlay.AOR, flow.Flow, sip.Uri) (sip.Uri, bool) { return sip.Uri{}, false }
func (f *fixed) ReadGRUU(uri sip.Uri) (GRUU, bool) {
	aor, err := oid.AOR(uri.User)
	return GRUU{AOR: aor, Device: "d", Known: true}, err == nil
}

// TestGRUU sends requests for one device of bob's, who has phones at two nodes and two at one of them.
func TestGRUUs(t *testing.T) {
	type outcome struct {
		status string
		rings  string // ports of the phones that were asked
	}
	for name, c := range map[string]struct {
		uri  string
		want outcome
	}{
		"first":                  {"sip:bob@p2psip.example;gr=dev5071", outcome{"200", "5071"}},
		"second at the node":     {"sip:bob@p2psip.example;gr=dev5072", outcome{"200", "5072"}},
		"at the other node":      {"sip:bob@p2psip.example;gr=dev5073", outcome{"200", "5073"}},
		"known, away":            {"sip:bob@p2psip.example;gr=gone", outcome{"480", ""}},
		"unknown":                {"sip:bob@p2psip.example;gr=never", outcome{"404", ""}},
		"of nobody":              {"sip:carol@p2psip.example;gr=dev5071", outcome{"404", ""}},
		"temporary":              {"sip:tgruu.{}@p2psip.example;gr", outcome{"200", "5073"}},
		"temporary, meaningless": {"sip:tgruu.x@p2psip.example;gr", outcome{"404", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			newWorld(t, func(w *world) {
				a, b, c2 := w.node(1), w.node(2), w.node(3)
				alice := a.phone("alice", flow.TransportUDP, 5070, 1000)
				phones := []*phone{
					b.phone("bob", flow.TransportUDP, 5071, 1000), b.phone("bob", flow.TransportUDP, 5072, 1000),
					c2.phone("bob", flow.TransportUDP, 5073, 1000),
				}
				b.known = map[string]bool{"gone": true, "dev5071": true, "dev5072": true}
				label, _, _ := strings.Cut(c2.name, ".")
				alice.send(alice.out("MESSAGE", strings.Replace(c.uri, "{}", label, 1)))
				var rung []string
				for range 3 {
					for _, p := range phones {
						if p.got() != "" {
							rung = append(rung, strconv.Itoa(p.f.To.Port))
							p.send(p.answer(p.request("MESSAGE"), 200))
						}
					}
					w.after(10 * time.Second)
				}
				got := outcome{alice.got(), strings.Join(rung, " ")}
				if got != c.want {
					t.Errorf("%+v, want %+v", got, c.want)
				}
			})
		})
	}
}

// TestGRUUMoved has a phone that registered at one node and then at another: the newer one is asked first, and the older
// one only when the phone is not there.
func TestGRUUMoved(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b, c := w.node(1), w.node(2), w.node(3)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		before, now := b.phone("bob", flow.TransportTCP, 5071, 1000), c.phone("bob", flow.TransportTCP, 5071, 1000)
		a.locate = func(context.Context, overlay.AOR) []found {
			old, _ := b.entry(before.aor)
			young, _ := c.entry(now.aor)
			return []found{{rec: overlay.Record{Nodes: []overlay.NodeEntry{young, old}}}}
		}
		alice.send(alice.out("INVITE", bobURI+";gr=dev5071"))
		before.expect("")
		now.expect("INVITE")
		now.send(now.answer(now.request("INVITE"), 480))
		before.expect("INVITE")
		before.send(before.answer(before.request("INVITE"), 486))
		alice.expect("100 486")

		// What the device itself says is final.
		alice.send(alice.out("INVITE", bobURI+";gr=dev5071"))
		now.expect("ACK INVITE")
		now.send(now.answer(now.request("INVITE"), 486))
		w.after(time.Second)
		before.expect("ACK")
		alice.expect("100 486")
	})
}
