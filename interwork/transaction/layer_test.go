package transaction

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction/transactiontest"
)

// user records what the layer tells it and answers with react, if that is set.
type user struct {
	log   []string
	tx    *Server
	react func(tx *Server, req *sip.Request)
}

func (u *user) HandleRequest(tx *Server, req *sip.Request) {
	u.log, u.tx = append(u.log, "request "+string(req.Method)), tx
	if u.react != nil {
		u.react(tx, req)
	}
}
func (u *user) HandleCancel(*Server)                          { u.log = append(u.log, "cancel") }
func (u *user) HandleAck(flow.Flow, *sip.Request)             { u.log = append(u.log, "ack") }
func (u *user) HandleLost(*Server)                            { u.log = append(u.log, "lost") }
func (u *user) HandleFlowClosed(flow.Flow)                    { u.log = append(u.log, "closed") }
func (u *user) HandleResponse(_ flow.Flow, res *sip.Response) { u.log = append(u.log, "stray") }

func (u *user) take() string {
	s := strings.Join(u.log, ", ")
	u.log = nil
	return s
}

// ends records what a client transaction comes to.
type ends struct {
	mu  sync.Mutex
	log []string
}

func (e *ends) add(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, s)
}

func (e *ends) HandleResponse(_ *Client, res *sip.Response) {
	e.add(transactiontest.Line(res))
}
func (e *ends) HandleTimeout(c *Client) {
	e.add("timeout")
	if c.Request() == nil {
		e.add("of nothing")
	}
}
func (e *ends) HandleTransportError(c *Client, err error) {
	e.add("transport error")
	if c.Request() == nil {
		e.add("of nothing")
	}
}
func (e *ends) take() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := strings.Join(e.log, " ")
	e.log = nil
	return s
}

var (
	here  = flow.Addr{Host: "127.0.0.1", Port: 5060}
	phone = flow.Addr{Host: "127.0.0.9", Port: 6000}
)

// bubble runs a test with a layer, a user and a flow, in virtual time.
func bubble(t *testing.T, tr flow.Transport, o Options, test func(l *Layer, u *user, f *transactiontest.Flow)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := &user{}
		o.Handler = u
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
		l, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		test(l, u, transactiontest.New(tr, here, phone))
	})
}

func request(method, branch string) *sip.Request {
	cseq := method
	return transactiontest.Parse(fmt.Sprintf(`%s sip:bob@p2psip.example SIP/2.0
		Via: SIP/2.0/UDP 127.0.0.9:6000;branch=%s
		From: <sip:alice@p2psip.example>;tag=a
		To: <sip:bob@p2psip.example>
		Call-ID: c1
		CSeq: 1 %s
		Max-Forwards: 70
		Content-Length: 0
		`, method, branch, cseq)).(*sip.Request)
}

func reply(req *sip.Request, status int) *sip.Response { return message.NewResponse(req, status, "") }

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func servers(l *Layer) int { return l.Stats().Servers }
func clients(l *Layer) int { return l.Stats().Clients }

func TestInviteServerUDP(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		inv := request("INVITE", "z9hG4bK1")
		l.HandleMessage(f, inv)
		expect(t, "user", u.take(), "request INVITE")
		expect(t, "before 200 ms", f.Lines(), "")
		later(200 * time.Millisecond)
		expect(t, "after 200 ms", f.Lines(), "100")
		_ = u.tx.Respond(reply(inv, 180))
		l.HandleMessage(f, request("INVITE", "z9hG4bK1"))
		expect(t, "ringing and its repetition", f.Lines(), "180 180")

		_ = u.tx.Respond(reply(inv, 486))
		expect(t, "busy", f.Lines(), "486")
		later(500*time.Millisecond + time.Second + 2*time.Second + 4*time.Second + 4*time.Second)
		expect(t, "timer G doubles to T2", f.Lines(), "486 486 486 486 486")
		ack := request("ACK", "z9hG4bK1")
		l.HandleMessage(f, ack)
		l.HandleMessage(f, ack)
		later(4 * time.Second)
		expect(t, "after the ACK", f.Lines(), "")
		expect(t, "the ACK is absorbed", u.take(), "")
		expect(t, "table", fmt.Sprint(servers(l)), "1")
		later(time.Second)
		expect(t, "table after timer I", fmt.Sprint(servers(l)), "0")
	})
}

func TestInviteServerWithoutAckEnds(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		inv := request("INVITE", "z9hG4bK1")
		l.HandleMessage(f, inv)
		_ = u.tx.Respond(reply(inv, 404))
		done := u.tx.Done()
		later(32*time.Second - 1)
		select {
		case <-done:
			t.Error("ended before timer H")
		default:
		}
		later(1)
		select {
		case <-done:
		default:
			t.Error("timer H did not end it")
		}
		expect(t, "table", fmt.Sprint(servers(l)), "0")
		if err := u.tx.Respond(reply(inv, 200)); err == nil {
			t.Error("a response after the end was accepted")
		}
	})
}

func TestInviteServerAccepted(t *testing.T) {
	bubble(t, flow.TransportTCP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		inv := request("INVITE", "z9hG4bK1")
		l.HandleMessage(f, inv)
		_ = u.tx.Respond(reply(inv, 200))
		if err := u.tx.Respond(reply(inv, 200)); err != nil {
			t.Errorf("a second 2xx: %v", err)
		}
		if err := u.tx.Respond(reply(inv, 486)); err == nil {
			t.Error("a 486 after a 200 was accepted")
		}
		l.HandleMessage(f, request("INVITE", "z9hG4bK1")) // absorbed without an answer (RFC 6026 §7.1)
		expect(t, "answers", f.Lines(), "200 200")
		u.take()
		l.HandleMessage(f, request("ACK", "z9hG4bK1"))
		expect(t, "an ACK with the same branch", u.take(), "ack")
		later(32 * time.Second)
		expect(t, "table after timer L", fmt.Sprint(servers(l)), "0")
	})
}

func TestOtherServer(t *testing.T) {
	for _, tr := range []flow.Transport{flow.TransportUDP, flow.TransportTCP} {
		t.Run(string(tr), func(t *testing.T) {
			bubble(t, tr, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
				req := request("MESSAGE", "z9hG4bK1")
				l.HandleMessage(f, req)
				l.HandleMessage(f, request("MESSAGE", "z9hG4bK1"))
				_ = u.tx.Respond(reply(req, 183)) // RFC 4320 §4.1: only 100
				if tr == flow.TransportUDP {
					_ = u.tx.Respond(reply(req, 100)) // too early on an unreliable flow
				}
				expect(t, "nothing yet", f.Lines(), "")
				later(3500 * time.Millisecond)
				expect(t, "100 when timer E has reached T2", f.Lines(), "100")
				_ = u.tx.Respond(reply(req, 200))
				l.HandleMessage(f, request("MESSAGE", "z9hG4bK1"))
				want, left := "200 200", 1
				if tr == flow.TransportTCP { // the transaction ended with the answer, this is a new request
					want, left = "200", 1
				}
				expect(t, "answer", f.Lines(), want)
				expect(t, "table", fmt.Sprint(servers(l)), fmt.Sprint(left))
				later(32 * time.Second)
				expect(t, "table after timer J", fmt.Sprint(servers(l)), "0")
			})
		})
	}
}

func TestOtherServerNever408(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		req := request("MESSAGE", "z9hG4bK1")
		l.HandleMessage(f, req)
		if err := u.tx.Respond(reply(req, 408)); err != nil {
			t.Error(err)
		}
		later(time.Minute)
		expect(t, "answers", f.Lines(), "")
		expect(t, "table", fmt.Sprint(servers(l)), "0")
	})
}

func TestUnansweredRequestEnds(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		l.HandleMessage(f, request("MESSAGE", "z9hG4bK1"))
		l.HandleMessage(f, request("INVITE", "z9hG4bK2"))
		later(32 * time.Second)
		expect(t, "table without the MESSAGE", fmt.Sprint(servers(l)), "1")
		later(2 * time.Hour)
		expect(t, "table without the forgotten INVITE", fmt.Sprint(servers(l)), "0")
	})
}

func TestCancel(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		l.HandleMessage(f, request("CANCEL", "z9hG4bK1"))
		expect(t, "CANCEL of nothing", f.Lines(), "481")
		expect(t, "user", u.take(), "")
		l.HandleMessage(f, request("INVITE", "z9hG4bK2"))
		inv := u.tx
		l.HandleMessage(f, request("CANCEL", "z9hG4bK2"))
		l.HandleMessage(f, request("CANCEL", "z9hG4bK2"))
		expect(t, "CANCEL and its repetition", f.Lines(), "200 200")
		expect(t, "user", u.take(), "request INVITE, cancel")
		_ = inv.Respond(reply(inv.Request(), 487))
		expect(t, "the INVITE's answer is the user's", f.Lines(), "487")

		other := transactiontest.New(flow.TransportUDP, here, flow.Addr{Host: "127.0.0.66", Port: 6000})
		l.HandleMessage(f, request("INVITE", "z9hG4bK3"))
		u.take()
		l.HandleMessage(other, request("CANCEL", "z9hG4bK3"))
		expect(t, "a CANCEL from elsewhere", other.Lines(), "481")
		expect(t, "user", u.take(), "")

		l.HandleMessage(f, request("INVITE", "z9hG4bK4"))
		_ = u.tx.Respond(reply(u.tx.Request(), 200))
		u.take()
		l.HandleMessage(f, request("CANCEL", "z9hG4bK4"))
		expect(t, "CANCEL after the final answer", u.take(), "")
	})
}

func TestOldBranch(t *testing.T) {
	for _, branch := range []string{"1", "z9hG4bK"} {
		bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
			old := func(method string) *sip.Request {
				r := request(method, "z9hG4bKx")
				r.Via().Params.Add("branch", branch)
				return r
			}
			l.HandleMessage(f, old("INVITE"))
			l.HandleMessage(f, old("INVITE"))
			_ = u.tx.Respond(reply(u.tx.Request(), 486))
			l.HandleMessage(f, old("ACK"))
			expect(t, "one request", u.take(), "request INVITE")
			next := old("INVITE")
			next.CSeq().SeqNo = 2
			l.HandleMessage(f, next)
			expect(t, "another CSeq is another request", u.take(), "request INVITE")
			l.HandleMessage(f, old("CANCEL"))
			if u.take() != "" {
				t.Error("the CANCEL of an answered INVITE reached the user")
			}
		})
	}
}

func TestFullTables(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{MaxServer: 3, MaxSource: 2, MaxClient: 1}, func(l *Layer, u *user, f *transactiontest.Flow) {
		for i := range 3 {
			l.HandleMessage(f, request("MESSAGE", fmt.Sprintf("z9hG4bK%d", i)))
		}
		sent := f.Take()
		if len(sent) != 1 || transactiontest.Line(sent[0]) != "503" || len(sent[0].GetHeaders("Retry-After")) != 1 {
			t.Errorf("a full table sent %v", sent)
		}
		expect(t, "user", u.take(), "request MESSAGE, request MESSAGE")
		expect(t, "table", fmt.Sprint(servers(l)), "2")
		for i := range 2 { // there is room for one more, from elsewhere
			other := transactiontest.New(flow.TransportUDP, here, flow.Addr{Host: fmt.Sprint("127.0.0.", 20+i), Port: 6000})
			l.HandleMessage(other, request("MESSAGE", fmt.Sprintf("z9hG4bK%d", i)))
			expect(t, "the full table as a whole", other.Lines(), []string{"", "503"}[i])
		}
		if _, err := l.Request(f, request("MESSAGE", "z9hG4bKx"), &ends{}); err != nil {
			t.Error(err)
		}
		if _, err := l.Request(f, request("MESSAGE", "z9hG4bKy"), &ends{}); err == nil {
			t.Error("the client table has no bound")
		}
	})
}

func TestPanicCostsOneMessage(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		u.react = func(*Server, *sip.Request) { panic("fault") }
		l.HandleMessage(f, request("MESSAGE", "z9hG4bK1"))
		expect(t, "answer", f.Lines(), "500")
		u.react = nil
		l.HandleMessage(f, request("MESSAGE", "z9hG4bK2"))
		if got := l.Stats().Panics; got != 1 {
			t.Errorf("%d panics counted", got)
		}
	})
}

func TestServerFlowLost(t *testing.T) {
	bubble(t, flow.TransportTCP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		l.HandleMessage(f, request("INVITE", "z9hG4bK1"))
		l.HandleMessage(f, request("INVITE", "z9hG4bK2"))
		_ = u.tx.Respond(reply(u.tx.Request(), 200))
		u.take()
		f.Close()
		l.HandleClosed(f)
		expect(t, "only the unanswered one is lost", u.take(), "lost, closed")
		expect(t, "table", fmt.Sprint(servers(l)), "0")
		if err := u.tx.Respond(reply(u.tx.Request(), 200)); err == nil {
			t.Error("an answer on a dead flow was accepted")
		}
	})
}

func TestTrace(t *testing.T) {
	var seen []string
	o := Options{Trace: func(out bool, _ flow.Flow, m sip.Message) {
		seen = append(seen, map[bool]string{true: ">", false: "<"}[out]+transactiontest.Line(m))
	}}
	bubble(t, flow.TransportUDP, o, func(l *Layer, u *user, f *transactiontest.Flow) {
		inv := request("INVITE", "z9hG4bK1")
		l.HandleMessage(f, inv)
		_ = u.tx.Respond(reply(inv, 486))
		later(600 * time.Millisecond)
		c := request("INVITE", "z9hG4bK2")
		_, _ = l.Request(f, c, &ends{})
		l.HandleMessage(f, reply(c, 404))
		expect(t, "trace", strings.Join(seen, " "), "<INVITE >486 >486 >INVITE <404 >ACK")
	})
}
