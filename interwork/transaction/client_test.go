package transaction

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction/transactiontest"
)

func TestInviteClientRetransmits(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		e := &ends{}
		if _, err := l.Request(f, request("INVITE", "z9hG4bK1"), e); err != nil {
			t.Fatal(err)
		}
		later(32*time.Second - 1)
		expect(t, "timer A doubles without bound", f.Lines(), "INVITE INVITE INVITE INVITE INVITE INVITE INVITE")
		expect(t, "before timer B", e.take(), "")
		later(1)
		expect(t, "timer B", e.take(), "timeout")
		expect(t, "table", fmt.Sprint(clients(l)), "0")
	})
}

// TestSilentNode gives up on a node that does not say a word; one that says 100 has the usual time.
func TestSilentNode(t *testing.T) {
	for _, method := range []string{"INVITE", "MESSAGE"} {
		bubble(t, flow.TransportP2P, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
			e := &ends{}
			_, _ = l.Request(f, request(method, "z9hG4bK1"), e)
			later(1800*time.Millisecond - 1)
			expect(t, "before", e.take(), "")
			later(1)
			expect(t, "silence", e.take(), "transport error")
			expect(t, "table", fmt.Sprint(clients(l)), "0")

			req := request(method, "z9hG4bK2")
			_, _ = l.Request(f, req, e)
			later(1800*time.Millisecond - 1)
			l.HandleMessage(f, reply(req, 100))
			later(20 * time.Second)
			expect(t, "after 100", e.take(), "100")
			later(2 * time.Hour)
			expect(t, "at the end", e.take(), "timeout")
		})
	}
}

func TestInviteClientReliable(t *testing.T) {
	bubble(t, flow.TransportTCP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		e := &ends{}
		inv := request("INVITE", "z9hG4bK1")
		_, _ = l.Request(f, inv, e)
		later(10 * time.Second)
		expect(t, "a reliable flow repeats nothing", f.Lines(), "INVITE")
		l.HandleMessage(f, reply(inv, 486))
		expect(t, "ACK", f.Lines(), "ACK")
		expect(t, "table", fmt.Sprint(clients(l)), "0") // timer D is zero
		later(time.Hour)
		expect(t, "user", e.take(), "486")
	})
}

func TestInviteClientNon2xx(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		e := &ends{}
		inv := request("INVITE", "z9hG4bK1")
		inv.AppendHeader(sip.NewHeader("Route", "<sip:127.0.0.1;lr>"))
		_, _ = l.Request(f, inv, e)
		l.HandleMessage(f, reply(inv, 100))
		l.HandleMessage(f, reply(inv, 180))
		later(time.Minute)
		expect(t, "a provisional response ends A and B", f.Lines(), "INVITE")
		busy := reply(inv, 486)
		l.HandleMessage(f, busy)
		l.HandleMessage(f, busy)
		sent := f.Take()
		if len(sent) != 2 {
			t.Fatalf("%d messages instead of two ACKs", len(sent))
		}
		ack := sent[0].(*sip.Request)
		if ack.Method != sip.ACK || ack.Recipient.String() != inv.Recipient.String() ||
			ack.Via().Value() != inv.Via().Value() || len(ack.GetHeaders("Via")) != 1 || len(ack.GetHeaders("Route")) != 1 ||
			ack.CSeq().Value() != "1 ACK" || ack.From().Value() != inv.From().Value() || ack.To().Value() != busy.To().Value() ||
			ack.CallID().Value() != inv.CallID().Value() {
			t.Errorf("the ACK is\n%s", ack)
		}
		expect(t, "user", e.take(), "100 180 486")
		later(32*time.Second - 1)
		expect(t, "table before timer D", fmt.Sprint(clients(l)), "1")
		later(1)
		expect(t, "table", fmt.Sprint(clients(l)), "0")
	})
}

func TestInviteClientAccepted(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		e := &ends{}
		inv := request("INVITE", "z9hG4bK1")
		_, _ = l.Request(f, inv, e)
		l.HandleMessage(f, reply(inv, 200))
		l.HandleMessage(f, reply(inv, 200))
		l.HandleMessage(f, reply(inv, 486))
		expect(t, "every 2xx and nothing else", e.take(), "200 200")
		expect(t, "no ACK", f.Lines(), "INVITE")
		later(32 * time.Second)
		l.HandleMessage(f, reply(inv, 200))
		expect(t, "after timer M", u.take(), "stray")
	})
}

func TestClientCancel(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		e := &ends{}
		inv := request("INVITE", "z9hG4bK1")
		c, _ := l.Request(f, inv, e)
		c.Cancel()
		expect(t, "no CANCEL before a provisional response", f.Lines(), "INVITE")
		l.HandleMessage(f, reply(inv, 180))
		c.Cancel()
		sent := f.Take()
		if len(sent) != 1 {
			t.Fatalf("%d messages instead of one CANCEL", len(sent))
		}
		cancel := sent[0].(*sip.Request)
		if cancel.Method != sip.CANCEL || cancel.Via().Value() != inv.Via().Value() || cancel.CSeq().Value() != "1 CANCEL" ||
			cancel.To().Value() != inv.To().Value() || cancel.Recipient.String() != inv.Recipient.String() {
			t.Errorf("the CANCEL is\n%s", cancel)
		}
		l.HandleMessage(f, reply(cancel, 200))
		l.HandleMessage(f, reply(inv, 487))
		expect(t, "user", e.take(), "180 487")
		expect(t, "ACK", f.Lines(), "ACK")

		// A far side that ignores the CANCEL.
		inv = request("INVITE", "z9hG4bK2")
		c, _ = l.Request(f, inv, e)
		l.HandleMessage(f, reply(inv, 180))
		later(time.Hour)
		c.Cancel()
		e.take()
		later(32 * time.Second)
		expect(t, "§9.1: given up after 64*T1", e.take(), "timeout")
		expect(t, "table", fmt.Sprint(clients(l)), "0")
	})
}

func TestOtherClient(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		e := &ends{}
		req := request("BYE", "z9hG4bK1")
		_, _ = l.Request(f, req, e)
		later(32*time.Second - 1)
		// 0, 0.5, 1.5, 3.5, 7.5, then every 4 s
		expect(t, "timer E", f.Lines(), "BYE BYE BYE BYE BYE BYE BYE BYE BYE BYE BYE")
		later(1)
		expect(t, "timer F", e.take(), "timeout")

		req = request("BYE", "z9hG4bK2")
		_, _ = l.Request(f, req, e)
		l.HandleMessage(f, reply(req, 100))
		f.Take()
		later(9 * time.Second)
		expect(t, "timer E in Proceeding is T2", f.Lines(), "BYE BYE")
		l.HandleMessage(f, reply(req, 200))
		l.HandleMessage(f, reply(req, 200))
		expect(t, "user", e.take(), "100 200")
		expect(t, "table", fmt.Sprint(clients(l)), "1")
		later(5 * time.Second)
		expect(t, "table after timer K", fmt.Sprint(clients(l)), "0")
	})
}

func TestClientFlowFails(t *testing.T) {
	bubble(t, flow.TransportTCP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		e := &ends{}
		f.Fail(errors.New("refused"))
		if _, err := l.Request(f, request("INVITE", "z9hG4bK1"), e); err == nil {
			t.Error("no error")
		}
		f.Fail(nil)
		_, _ = l.Request(f, request("INVITE", "z9hG4bK2"), e)
		l.HandleClosed(f)
		later(time.Hour)
		expect(t, "only the second hears of it, once", e.take(), "transport error")
		expect(t, "table", fmt.Sprint(clients(l)), "0")
		if _, err := l.Request(f, request("INVITE", "z9hG4bK3"), e); err != nil {
			t.Error(err)
		}
		if _, err := l.Request(f, request("INVITE", "z9hG4bK3"), e); !errors.Is(err, ErrDuplicate) {
			t.Errorf("a branch in use: %v", err)
		}
	})
}

func TestTimersValidate(t *testing.T) {
	for _, o := range []Options{
		{}, {Handler: &user{}, MaxServer: -1}, {Handler: &user{}, Timers: Timers{T1: -1}},
		{Handler: &user{}, Timers: Timers{T1: 10 * time.Second}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
