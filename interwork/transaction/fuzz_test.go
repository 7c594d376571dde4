package transaction

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction/transactiontest"
)

// fuzzed is a transaction user under the control of a script. What it holds on to is what a user might.
type fuzzed struct {
	l       *Layer
	flows   []*transactiontest.Flow
	servers []*Server
	clients []*Client
	wire    [][]byte // what the layer has sent
	serial  int
}

func (u *fuzzed) HandleRequest(tx *Server, req *sip.Request) { u.servers = append(u.servers, tx) }
func (u *fuzzed) HandleCancel(tx *Server)                    { u.answer(tx, 487) }
func (u *fuzzed) HandleAck(f flow.Flow, req *sip.Request)    {}
func (u *fuzzed) HandleResponse(flow.Flow, *sip.Response)    {}
func (u *fuzzed) HandleLost(*Server)                         {}
func (u *fuzzed) HandleFlowClosed(flow.Flow)                 {}

func (u *fuzzed) answer(tx *Server, status int) {
	_ = tx.Respond(message.NewResponse(tx.Request(), status, ""))
}

// script is the bytes that a fuzzer makes up, read from the front; after its end come zeros.
type script []byte

func (s *script) next() int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b)
}

func (s *script) pick(n int) int { return s.next() % n }

func (s *script) text() []byte {
	n := min(s.next()+s.next()<<8, len(*s))
	b := (*s)[:n]
	*s = (*s)[n:]
	return b
}

var (
	fuzzMethods  = []string{"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK"}
	fuzzStatus   = []int{100, 180, 199, 200, 202, 301, 404, 408, 486, 487, 503, 603}
	fuzzBranches = []string{"z9hG4bK1", "z9hG4bK2", "z9hG4bKc1", "z9hG4bKc2", "z9hG4bKc3", "2543"}
	fuzzWaits    = []time.Duration{time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, 5 * time.Second, 33 * time.Second, 200 * time.Second}
)

// step does one thing of the script.
func (u *fuzzed) step(s *script) {
	f := u.flows[s.pick(len(u.flows))]
	switch s.pick(11) {
	case 0: // anything that is SIP
		if m, err := message.Parse(s.text(), true); err == nil {
			u.l.HandleMessage(f, m)
		}
	case 1: // a request that may belong to another
		u.l.HandleMessage(f, request(fuzzMethods[s.pick(len(fuzzMethods))], fuzzBranches[s.pick(len(fuzzBranches))]))
	case 2: // a response that may belong to a request of ours
		req := request(fuzzMethods[s.pick(len(fuzzMethods))], fuzzBranches[s.pick(len(fuzzBranches))])
		u.l.HandleMessage(f, reply(req, fuzzStatus[s.pick(len(fuzzStatus))]))
	case 3: // what the layer has sent comes back
		if len(u.wire) > 0 {
			if m, err := message.Parse(u.wire[s.pick(len(u.wire))], true); err == nil {
				u.l.HandleMessage(f, m)
			}
		}
	case 4:
		if len(u.servers) > 0 {
			u.answer(u.servers[s.pick(len(u.servers))], fuzzStatus[s.pick(len(fuzzStatus))])
		}
	case 5:
		u.serial++
		branch := fmt.Sprint("z9hG4bKc", u.serial%8)
		if c, err := u.l.Request(f, request(fuzzMethods[s.pick(len(fuzzMethods))], branch), &ends{}); err == nil {
			u.clients = append(u.clients, c)
		}
	case 6:
		if len(u.clients) > 0 {
			c := u.clients[s.pick(len(u.clients))]
			if s.pick(2) == 0 {
				c.Cancel()
			} else {
				c.LimitRinging()
			}
		}
	case 7:
		time.Sleep(fuzzWaits[s.pick(len(fuzzWaits))])
		synctest.Wait()
	case 8:
		u.l.HandleUnreachable(f, errors.New("connection refused"))
	case 9:
		if s.pick(2) == 0 {
			f.Fail(flow.ErrFull)
		} else {
			f.Fail(nil)
		}
	case 10:
		if f.Reliable() { // it is replaced, as a phone connects again
			f.Close()
			u.l.HandleClosed(f)
			for i := range u.flows {
				if u.flows[i] == f {
					u.flows[i] = transactiontest.New(f.T, f.From, f.To)
				}
			}
		}
	}
	for _, f := range u.flows {
		for _, b := range f.Raw() {
			if _, err := message.Parse(b, true); err != nil {
				panic(fmt.Sprintf("sent what does not parse: %v\n%s", err, b))
			}
			u.wire = append(u.wire, b)
		}
	}
}

// FuzzLayer: whatever comes in whatever order, nothing panics, and when everybody has been silent for long enough all
// tables are empty and no timer is left.
func FuzzLayer(f *testing.F) {
	inv := message.Bytes(request("INVITE", "z9hG4bK9"))
	f.Add(append([]byte{0, 0, byte(len(inv)), byte(len(inv) >> 8)}, inv...))
	f.Add([]byte{0, 1, 0, 0, 0, 4, 0, 1, 0, 4, 0, 3, 0, 1, 1, 0})          // INVITE 180 200 ACK
	f.Add([]byte{1, 1, 0, 5, 1, 4, 0, 8, 1, 7, 3, 1, 1, 0, 5})             // INVITE without cookie, 486 over TCP, time, again
	f.Add([]byte{0, 5, 0, 0, 2, 0, 2, 1, 0, 6, 0, 0, 0, 2, 0, 2, 9})       // INVITE out, 180, CANCEL, 487
	f.Add([]byte{0, 5, 4, 0, 8, 0, 5, 0, 0, 6, 0, 1, 0, 2, 0, 3, 1})       // OPTIONS out, nobody there, INVITE rings for ever
	f.Add([]byte{1, 1, 0, 0, 1, 5, 0, 1, 10, 2, 1, 3, 0, 7, 4, 0, 9, 0})   // TCP that ends in the middle
	f.Add([]byte{0, 9, 0, 0, 1, 0, 0, 0, 4, 0, 6, 0, 9, 1, 0, 7, 3, 0, 3}) // a queue that is full
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			u := &fuzzed{}
			l, err := New(Options{
				Handler: u, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Timers: Timers{Age: 10 * time.Minute},
				MaxServer: 40, MaxClient: 40,
			})
			if err != nil {
				t.Fatal(err)
			}
			u.l = l
			for i, tr := range []flow.Transport{flow.TransportUDP, flow.TransportTCP, flow.TransportP2P} {
				u.flows = append(u.flows, transactiontest.New(tr, here, flow.Addr{Host: phone.Host, Port: phone.Port + i}))
			}
			s := script(b)
			for n := 0; n < 200 && len(s) > 0; n++ {
				u.step(&s)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			st := l.Stats()
			if st.Panics != 0 {
				t.Errorf("%d panics", st.Panics)
			}
			l.smu.Lock()
			sources := len(l.sources)
			l.smu.Unlock()
			if st.Servers+st.Clients+sources+len(l.flows) != 0 {
				t.Errorf("left over: %d servers, %d clients, %d sources, %d flows", st.Servers, st.Clients, sources, len(l.flows))
			}
			for d, q := range l.clock.lists {
				if q.head != nil || q.running {
					t.Errorf("a timer of %v is left", d)
				}
			}
			l.Close()
		})
	})
}
