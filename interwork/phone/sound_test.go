package phone

import (
	"context"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/pion/rtcp"

	"p2psip/interwork/phone/audio"
)

// recorder is a Sink that remembers.
type recorder struct {
	mu   sync.Mutex
	all  []int16
	want int
	full chan struct{}
}

func record(samples int) *recorder { return &recorder{want: samples, full: make(chan struct{})} }

func (r *recorder) Write(samples []int16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) < r.want {
		if r.all = append(r.all, samples...); len(r.all) >= r.want {
			close(r.full)
		}
	}
}

func (r *recorder) wait(t *testing.T, ctx context.Context) []int16 {
	t.Helper()
	select {
	case <-r.full:
	case <-ctx.Done():
		t.Fatal("the recording is not long enough")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

// speech is something that no other piece of itself is mistaken for: a sweep that grows louder.
func speech(seconds float64) []int16 {
	n := int(seconds * audio.Rate)
	out := make([]int16, n)
	for i := range out {
		at := float64(i) / audio.Rate
		share := float64(i) / float64(n)
		out[i] = int16((3000 + 20000*share) * math.Sin(2*math.Pi*(300+600*at)*at))
	}
	return out
}

// What is sent is what is heard, and comes back from an echo as what was sent; in both codecs.
func TestSoundArrives(t *testing.T) {
	for _, codec := range []Codec{PCMU, PCMA} {
		t.Run(codec.String(), func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			sent, heard := speech(1.5), record(3*audio.Rate)
			alice, _, calls := pair(t, func(c *Config) {
				c.Codecs = []Codec{codec}
				c.Sound = func(*Call) (Source, Sink) { return &Clip{sent}, heard }
				c.ReportEvery = 200 * time.Millisecond
			}, func(c *Config) {
				c.Sound = func(*Call) (Source, Sink) { e := &Echo{}; return e, e }
				c.ReportEvery = 200 * time.Millisecond
			})
			out, err := alice.Call(ctx, bobAOR)
			if err != nil {
				t.Fatal(err)
			}
			wait(t, out, Answered)
			in := next(t, calls)
			all := heard.wait(t, ctx)
			// On a busy machine a packet may be late; the pieces without such a hole are what was sent.
			const piece = audio.Rate / 5
			good, before := 0, 0
			for i := range 5 {
				c, at := audio.Match(sent[i*piece:(i+1)*piece], all[:2*audio.Rate])
				if c > 0.998 && at > before {
					good, before = good+1, at
				}
			}
			if good < 3 || before < 2*audio.FrameLength {
				t.Errorf("of five pieces %d came back as they were sent, one after the other", good)
			}
			s := out.Media()
			if s.Codec != codec || in.Media().Codec != codec || s.First == 0 || s.Gap > 5*time.Second || s.Buffered == 0 {
				t.Errorf("%+v", s)
			}
			if q, ok := s.Quality(); !ok || q.MOS() < 2 || s.Lost == 0 && s.Late == 0 && q.MOS() < 4 {
				t.Errorf("on loopback: %+v", q)
			}
			if err := out.Hangup(ctx); err != nil {
				t.Error(err)
			}
			// The reports told either side of the other's reception, and how far away it is.
			for side, s := range map[string]Stats{"alice": out.Media(), "bob": in.Media()} {
				if s.Control.Sent < 2 || s.Control.Received < 2 || s.Control.Lost > 2 || s.Delay <= 0 || s.Delay > 500*time.Millisecond {
					t.Errorf("%s: delay %v, reports %+v", side, s.Delay, s.Control)
				}
			}
		})
	}
}

func TestEarlyMedia(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	alice, _, calls := pair(t, nil, func(c *Config) { c.Incoming = func(*Call) {} })
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	in := next(t, calls)
	if err := in.Progress(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.WaitHeard(ctx, bobHz, 10); err != nil {
		t.Error(err)
	}
	if s := out.Media(); s.Sent > 0 {
		t.Errorf("before the answer %d packets were sent", s.Sent)
	}
	if err := in.Answer(); err != nil {
		t.Fatal(err)
	}
	wait(t, out, Answered)
	if _, err := in.WaitHeard(ctx, aliceHz, 10); err != nil {
		t.Error(err)
	}
	if err := out.Hangup(ctx); err != nil {
		t.Error(err)
	}
	if err := in.Progress(); err == nil {
		t.Error("early media after the end")
	}
}

func TestAnswerMode(t *testing.T) {
	auto := func(require bool) *AnswerMode { return &AnswerMode{Auto: true, Require: require} }
	for name, tc := range map[string]struct {
		mode   *AnswerMode
		to     string // who may
		status int    // 0: answered
		header string // in the 200
	}{
		"nothing asked":       {nil, aliceAOR, 0, ""},
		"auto":                {auto(false), aliceAOR, 0, "Auto"},
		"required":            {auto(true), aliceAOR, 0, "Auto"},
		"privileged":          {&AnswerMode{Auto: true, Privileged: true}, aliceAOR, 480, ""},
		"manual":              {&AnswerMode{}, aliceAOR, 0, "Auto"},
		"a person":            {&AnswerMode{Require: true}, aliceAOR, 403, ""},
		"somebody else":       {nil, bobAOR, 480, ""},
		"somebody else, auto": {auto(false), bobAOR, 480, ""},
		"somebody else, must": {auto(true), bobAOR, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			alice, _, _ := pair(t, nil, func(c *Config) {
				c.Incoming = Unattended(func(who string, privileged bool) bool { return who == tc.to && !privileged })
			})
			out, err := alice.CallWith(ctx, bobAOR, Options{AnswerMode: tc.mode})
			if err != nil {
				t.Fatal(err)
			}
			st, err := out.Wait(ctx, Answered)
			if tc.status != 0 {
				if st.Status != tc.status {
					t.Errorf("%s, want %d", st, tc.status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if h := out.Answerer(); h != tc.header {
				t.Errorf("the 200 says %q, want %q", h, tc.header)
			}
			if err := out.Hangup(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRequire(t *testing.T) {
	for value, want := range map[string]string{
		"answermode": "", "AnswerMode, privanswermode": "", "100rel": "100rel", "answermode, 100rel, timer": "100rel, timer", "": "",
	} {
		if got := unsupported([]sip.Header{sip.NewHeader("Require", value)}); got != want {
			t.Errorf("Require: %s leaves %q, want %q", value, got, want)
		}
	}
	for s, want := range map[string]string{
		"Auto": "Auto", "auto;require": "Auto;require", " MANUAL ; x=y; Require": "Manual;require", "maybe": "", "": "", ";require": "",
	} {
		if a, ok := ParseAnswerMode(s); ok != (want != "") || ok && a.String() != want {
			t.Errorf("%q is read as %v, %v; want %q", s, a, ok, want)
		}
	}
}

func TestPlayout(t *testing.T) {
	frame := func(v int16) []int16 {
		f := make([]int16, audio.FrameLength)
		for i := range f {
			f[i] = v
		}
		return f
	}
	// Each step puts packets, by number, and pulls one frame; 0 stands for silence.
	for name, tc := range map[string]struct {
		steps  [][]int
		played []int16
		late   int
	}{
		"in order":           {[][]int{{1}, {2}, {3}, {4}, {5}, {}, {}, {}}, []int16{0, 0, 0, 1, 2, 3, 4, 5}, 0},
		"out of order":       {[][]int{{2}, {1}, {4}, {3}, {5}, {}, {}, {}}, []int16{0, 0, 1, 2, 3, 4, 5, 0}, 0},
		"one lost":           {[][]int{{1}, {2}, {}, {4}, {5}, {}, {}, {}}, []int16{0, 0, 0, 1, 2, 0, 4, 5}, 0},
		"one too late":       {[][]int{{1}, {2}, {}, {4}, {5}, {6}, {7, 3}, {}}, []int16{0, 0, 0, 1, 2, 0, 4, 5}, 1},
		"a stall":            {[][]int{{1}, {}, {}, {}, {}, {}, {2, 3}, {4}, {5}, {6}}, []int16{0, 0, 0, 1, 0, 0, 2, 3, 4, 5}, 0},
		"another beginning":  {[][]int{{1}, {2}, {3}, {1001}, {1002}, {1003}, {1004}, {1005}}, []int16{0, 0, 0, 0, 0, 0, 1001, 1002}, 0},
		"timestamps wrap":    {[][]int{{-2}, {-1}, {0}, {1}, {2}, {3}}, []int16{0, 0, 0, -2, -1, 0}, 0},
		"much more than due": {[][]int{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {}, {}}, []int16{13, 14, 15}, 0},
	} {
		var p playout
		for i, step := range tc.steps {
			for _, n := range step {
				p.put(uint32(n)*audio.FrameLength, frame(int16(n)))
			}
			got := p.pull(nil, audio.FrameLength)
			if len(got) != audio.FrameLength || got[0] != tc.played[i] || got[audio.FrameLength-1] != tc.played[i] {
				t.Errorf("%s: step %d plays %d…%d, want %d", name, i, got[0], got[len(got)-1], tc.played[i])
			}
		}
		if p.late != tc.late {
			t.Errorf("%s: %d late, want %d", name, p.late, tc.late)
		}
	}
	// Packets of 30 ms played in pieces of 20.
	var p playout
	for n := range 8 {
		long := make([]int16, 240)
		for i := range long {
			long[i] = int16(n*240 + i)
		}
		p.put(uint32(n*240), long)
	}
	p.next = 0
	var all []int16
	for range 10 {
		all = p.pull(all, audio.FrameLength)
	}
	for i := 1; i < 5; i++ {
		if all[i*audio.FrameLength]-all[i*audio.FrameLength-1] != 1 {
			t.Errorf("a seam at %d: %d, then %d", i*audio.FrameLength, all[i*audio.FrameLength-1], all[i*audio.FrameLength])
		}
	}
}

func TestJitter(t *testing.T) {
	// Packets that come 10 ms early and late by turns have a difference of 20 ms each time, to which the estimate goes.
	var r reception
	for i := range 200 {
		at := time.Duration(i)*20*time.Millisecond + time.Duration(i%2)*20*time.Millisecond
		r.take(packet{sequence: uint16(i), timestamp: uint32(i * 160)}, at)
	}
	if j := r.jitter / 8; j < 19 || j > 20.1 {
		t.Errorf("jitter %.1f ms", j)
	}
	var even reception
	for i := range 200 {
		even.take(packet{sequence: uint16(65500 + i), timestamp: uint32(math.MaxUint32 - 1600 + i*160)}, time.Duration(i)*20*time.Millisecond)
	}
	if even.jitter > 0.001 {
		t.Errorf("even packets have jitter %v", even.jitter)
	}
	// Fractions lost, from one report to the next.
	var l reception
	for _, n := range []uint16{0, 1, 3, 4} {
		l.take(packet{sequence: n}, 0)
	}
	if f := l.lostSince(); f != 51 { // one of five
		t.Errorf("fraction %d of 256", f)
	}
	l.take(packet{sequence: 5}, 0)
	if f := l.lostSince(); f != 0 || l.bursts != 1 {
		t.Errorf("fraction %d of 256, %d bursts", f, l.bursts)
	}
}

// E-model: the figures of G.107 and G.113 at known places.
func TestQuality(t *testing.T) {
	for name, tc := range map[string]struct {
		q      Quality
		r, mos float64
	}{
		"perfect":       {Quality{}, 93.2, 4.41},
		"100 ms":        {Quality{Delay: 100 * time.Millisecond}, 90.8, 4.36},
		"400 ms":        {Quality{Delay: 400 * time.Millisecond}, 59.1, 3.05},
		"2 % lost":      {Quality{Loss: 0.02}, 86.2, 4.23},
		"10 % lost":     {Quality{Loss: 0.1}, 66.1, 3.41},
		"10 % in a row": {Quality{Loss: 0.1, Burst: 3}, 59.8, 3.08},
		"all lost":      {Quality{Loss: 1, Burst: 50}, 3, 1},
		"nonsense":      {Quality{Loss: 7, Delay: time.Hour}, 0, 1},
	} {
		if r, mos := tc.q.R(), tc.q.MOS(); math.Abs(r-tc.r) > 0.1 && name != "all lost" || math.Abs(mos-tc.mos) > 0.01 {
			t.Errorf("%s: R %.2f, MOS %.3f; want %.1f, %.2f", name, r, mos, tc.r, tc.mos)
		}
	}
	if _, ok := (Stats{}).Quality(); ok {
		t.Error("nothing heard has a quality")
	}
	q, _ := Stats{Received: 90, Lost: 10, Bursts: 2, Buffered: 60 * time.Millisecond, Delay: 20 * time.Millisecond}.Quality()
	if q.Loss != 0.1 || q.Burst != 4.5 || q.Delay != 100*time.Millisecond {
		t.Errorf("%+v", q)
	}
}

// Reports: the round trip is what LSR and DLSR say, and nobody else's reports count.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, near := netip.MustParseAddrPort("127.0.0.1:5001"), netip.MustParseAddrPort("127.0.0.1:6001")
		m := newMedia(nil, nil, nil)
		m.remoteControl = far
		sent := time.Now()
		time.Sleep(300 * time.Millisecond)
		tell := func(from netip.AddrPort, lsr uint32, ssrc uint32) {
			b, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 7, Reports: []rtcp.ReceptionReport{{
				SSRC: ssrc, FractionLost: 64, TotalLost: 3, Jitter: 80, LastSenderReport: lsr, Delay: units(200 * time.Millisecond),
			}}}})
			if err != nil {
				t.Fatal(err)
			}
			m.reported(b, net.UDPAddrFromAddrPort(from), time.Now())
		}
		tell(near, middle(ntp(sent)), m.out.ssrc)
		tell(far, middle(ntp(sent)), m.out.ssrc+1)
		if s := m.stats(); s.Delay != 0 || s.Control.Received != 0 {
			t.Errorf("a stranger's report counts: %+v", s)
		}
		tell(far, middle(ntp(sent))+1<<20, m.out.ssrc) // of the future
		if s := m.stats(); s.Delay != 0 || s.Control.Trips != 0 {
			t.Errorf("a report of what was never sent gives a delay of %v", s.Delay)
		}
		tell(far, middle(ntp(sent))+units(102*time.Millisecond), m.out.ssrc) // lay there for 2 ms more than there is time for
		if s := m.stats(); s.Delay != 0 || s.Control.Trips != 1 {
			t.Errorf("a far side that counts in milliseconds: %v, measured %d times", s.Delay, s.Control.Trips)
		}
		tell(far, middle(ntp(sent)), m.out.ssrc)
		s := m.stats()
		if s.Delay < 49*time.Millisecond || s.Delay > 51*time.Millisecond {
			t.Errorf("delay %v", s.Delay)
		}
		if s.Control.Lost != 3 || s.Control.Fraction != 0.25 || s.Control.Jitter != 10*time.Millisecond {
			t.Errorf("%+v", s.Control)
		}
		for _, b := range []string{"", "\x80\xc8\x00\x01abcd", strings.Repeat("\x81\xc9", 40)} {
			m.reported([]byte(b), net.UDPAddrFromAddrPort(far), time.Now())
		}
	})
}

func TestControlPort(t *testing.T) {
	for attribute, want := range map[string]string{
		"": "127.0.0.1:4001", "a=rtcp:9000": "127.0.0.1:9000", "a=rtcp:9000 IN IP4 127.0.0.7": "127.0.0.7:9000", "a=rtcp-mux": "127.0.0.1:4001",
		"a=rtcp": "", "a=rtcp:x": "", "a=rtcp:9000 IN IP4 name": "",
	} {
		d, err := parseSDP([]byte("v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 4000 RTP/AVP 8\r\n"+attribute+"\r\n"), DefaultCodecs())
		if (err != nil) != (want == "") || err == nil && d.control.String() != want {
			t.Errorf("%q: %v, %v", attribute, d.control, err)
		}
		if d.mux != (attribute == "a=rtcp-mux") {
			t.Errorf("%q: mux %v", attribute, d.mux)
		}
	}
	rtp, control, err := openPair(&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer rtp.Close()
	defer control.Close()
	if a, b := localOf(rtp).Port(), localOf(control).Port(); a%2 != 0 || b != a+1 {
		t.Logf("ports %d and %d are no pair", a, b) // allowed, and told by a=rtcp
	}
}

func FuzzRTCP(f *testing.F) {
	b, _ := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: 1, NTPTime: 1 << 40, Reports: []rtcp.ReceptionReport{{SSRC: 2, LastSenderReport: 9}}}, &rtcp.Goodbye{Sources: []uint32{1}}})
	f.Add(b)
	f.Add([]byte("\x81\xc9\x00\x07\x00\x00\x00\x01\x00\x00\x00\x02\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00"))
	far := netip.MustParseAddrPort("127.0.0.1:5001")
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newMedia(nil, nil, nil)
		m.remoteControl, m.out.ssrc = far, 2
		m.reported(b, net.UDPAddrFromAddrPort(far), time.Now())
		if s := m.stats(); s.Delay < 0 || s.Delay > maxDelay || s.Control.Lost < 0 {
			t.Errorf("%+v", s)
		}
	})
}
