package media

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// nothing is a carrier that sends nowhere.
type nothing struct{}

func (nothing) write([]byte, bool) {}

// BenchmarkPump is the work on one packet of G.711 without the system's: from the phone into SRTP, and from SRTP to the
// phone.
func BenchmarkPump(b *testing.B) {
	for _, suite := range []string{"AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"} {
		k, _ := secretOf(newCrypto(1, suite))
		b.Run("encrypt/"+suite, func(b *testing.B) {
			out, err := newSealer(k)
			if err != nil {
				b.Fatal(err)
			}
			near, far := &leg{carrier: nothing{}, clearIn: true}, &leg{carrier: nothing{}, sealer: out}
			near.peer.Store(far)
			p := rtpPacket(0, 0, 7, 160)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p[2], p[3] = byte(i>>8), byte(i)
				near.receive(p)
			}
		})
		b.Run("decrypt/"+suite, func(b *testing.B) {
			out, err := newSealer(k)
			if err != nil {
				b.Fatal(err)
			}
			in, err := newOpener(k)
			if err != nil {
				b.Fatal(err)
			}
			near, far := &leg{carrier: nothing{}, clearOut: true}, &leg{carrier: nothing{}, opener: in}
			far.peer.Store(near)
			sealed, buf := make([][]byte, 4096), make([]byte, 2048)
			fill := func(from int) {
				for n := range sealed {
					p := rtpPacket(uint16(from+n), 0, 7, 160)
					if sealed[n], err = out.seal(nil, p, false); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%len(sealed) == 0 {
					b.StopTimer()
					fill(i)
					b.StartTimer()
				}
				far.receive(buf[:copy(buf, sealed[i%len(sealed)])])
			}
			if far.meter.strange != 0 {
				b.Fatalf("%d packets were not taken", far.meter.strange)
			}
		})
	}
}

// BenchmarkAnchoredCalls carries calls of G.711 (50 packets a second each way, 172 octets) between plain phones and SRTP over
// ICE, for a second an iteration. The phones and the other node are another process, so that the figure is this node's alone:
// processor time for each packet carried, and how many such calls one core would be busy with.
//
//	go test -run '^$' -bench AnchoredCalls -benchtime 10x ./interwork/media
func BenchmarkAnchoredCalls(b *testing.B) {
	for _, calls := range []int{25, 100} {
		b.Run(strconv.Itoa(calls), func(b *testing.B) { benchmarkCalls(b, calls) })
	}
}

func benchmarkCalls(b *testing.B, calls int) {
	w := newWorld(b)
	a := w.node("a", Config{Warm: -1, PortMin: 30000, PortMax: 31999})
	gen := startGenerator(b)
	for i := range calls {
		id := fmt.Sprint("bench", i)
		offer := gen.ask(b, order{Op: "alice", Call: i}).Body
		x := a.Open(Dialog{CallID: id, FromTag: "alice", Method: "INVITE", CSeq: 1, FromPhone: true, Transaction: id,
			Phone: loopback4, PhoneHost: loopback4, Node: "b"})
		between := request(b, x, offer)
		back := gen.ask(b, order{Op: "invite", Call: i, Body: between}).Body
		toAlice, err := x.Response(200, "bob", true, back)
		if err != nil {
			b.Fatal(err)
		}
		gen.ask(b, order{Op: "answer", Call: i, Body: toAlice})
	}
	eventually(b, "all calls have keys", 30*time.Second, func() bool {
		n := 0
		for _, c := range a.Status().Calls {
			if len(c.Streams) == 1 && c.Streams[0].FarCrypto != "" {
				n++
			}
		}
		return n == calls
	})
	gen.ask(b, order{Op: "run", Count: 50}) // a second to warm up
	b.ResetTimer()
	before, packets := cpuTime(b), carried(a)
	var sent, got int
	for b.Loop() {
		r := gen.ask(b, order{Op: "run", Count: 50})
		sent, got = sent+r.Sent, got+r.Got
	}
	cpu, n := cpuTime(b)-before, carried(a)-packets
	b.StopTimer()
	if n == 0 {
		b.Fatal("nothing was carried")
	}
	perPacket := float64(cpu.Microseconds()) / float64(n)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(perPacket, "µs-cpu/packet")
	b.ReportMetric(1e6/(perPacket*100), "calls/core")
	b.ReportMetric(100*float64(sent-got)/float64(max(sent, 1)), "%lost")
	for _, c := range a.Status().Calls {
		if s := c.Streams[0]; s.FarCrypto != "DTLS-SRTP AEAD_AES_128_GCM" || s.Path != "host" {
			b.Fatalf("not what was to be measured: %+v", s)
		}
	}
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// carried counts the RTP packets that came in on either side.
func carried(m *Manager) (n uint64) {
	for _, c := range m.Status().Calls {
		for _, s := range c.Streams {
			n += s.FromPhone.Packets + s.FromFar.Packets
		}
	}
	return n
}

// generator is the process with the phones and the other node.
type generator struct {
	in  *json.Encoder
	out *json.Decoder
}

type order struct {
	Op    string
	Call  int
	Count int
	Body  []byte
}

type report struct {
	Body      []byte
	Err       string
	Sent, Got int
}

func startGenerator(b *testing.B) *generator {
	cmd := exec.Command(os.Args[0], "-test.run=^TestGenerator$", "-test.count=1")
	cmd.Env = append(os.Environ(), "MEDIA_GENERATOR=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return &generator{json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))}
}

func (g *generator) ask(b *testing.B, o order) (r report) {
	b.Helper()
	if err := g.in.Encode(o); err != nil {
		b.Fatal(err)
	}
	if err := g.out.Decode(&r); err != nil || r.Err != "" {
		b.Fatal(err, r.Err)
	}
	return r
}

// TestGenerator is that process; by itself it does nothing.
func TestGenerator(t *testing.T) {
	if os.Getenv("MEDIA_GENERATOR") == "" {
		t.Skip("only for BenchmarkAnchoredCalls")
	}
	w := newWorld(t)
	m := w.node("b", Config{Warm: -1, PortMin: 32000, PortMax: 33999})
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	alice, bob := map[int]*plainPhone{}, map[int]*plainPhone{}
	var got atomic.Int64
	count := func(p *plainPhone) {
		go func() {
			buf := make([]byte, 2000)
			for {
				if _, _, err := p.rtp.ReadFromUDPAddrPort(buf); err != nil {
					return
				}
				got.Add(1)
			}
		}()
	}
	for {
		var o order
		if in.Decode(&o) != nil {
			return
		}
		r := report{}
		switch o.Op {
		case "alice":
			alice[o.Call] = newPlainPhone(t, uint32(2*o.Call))
			r.Body = alice[o.Call].body()
		case "invite":
			p := newPlainPhone(t, uint32(2*o.Call+1))
			bob[o.Call] = p
			x := m.Open(Dialog{CallID: fmt.Sprint(o.Call), FromTag: "alice", Method: "INVITE", CSeq: 1, Transaction: fmt.Sprint(o.Call),
				Phone: loopback4, PhoneHost: loopback4, Node: "a"})
			body, err := tryRequest(x, o.Body)
			if err == nil {
				p.learn(body)
				count(p)
				body, err = x.Response(200, "bob", true, p.body())
			}
			if r.Body = body; err != nil {
				r.Err = err.Error()
			}
		case "answer":
			alice[o.Call].learn(o.Body)
			count(alice[o.Call])
		case "run":
			r.Sent = run(alice, bob, o.Count)
			time.Sleep(50 * time.Millisecond) // what is on its way: this is a measurement, not a wait
			r.Got = int(got.Swap(0))
		}
		if out.Encode(r) != nil {
			return
		}
	}
}

// run sends count packets from every phone, 20 ms apart, the phones spread evenly over that time.
func run(alice, bob map[int]*plainPhone, count int) (sent int) {
	var phones []*plainPhone
	for i := range alice {
		phones = append(phones, alice[i], bob[i])
	}
	payload := string(make([]byte, 160))
	begin := time.Now()
	const slots = 20
	for n := range count * slots {
		time.Sleep(time.Until(begin.Add(time.Duration(n) * 20 * time.Millisecond / slots)))
		for i := n % slots; i < len(phones); i += slots {
			phones[i].say(payload)
			sent++
		}
	}
	return sent
}
