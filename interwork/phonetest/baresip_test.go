package phonetest

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// registrar is the least that a phone can register with: it believes everything.
func registrar(t *testing.T, status string) (addr string, requests <-chan string) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			m := string(buf[:n])
			var b strings.Builder
			b.WriteString("SIP/2.0 " + status + "\r\n")
			for line := range strings.Lines(m) {
				name, _, _ := strings.Cut(line, ":")
				switch name {
				case "To":
					line = strings.TrimRight(line, "\r\n") + ";tag=r\r\n"
				case "Via", "From", "Call-ID", "CSeq", "Contact":
				default:
					continue
				}
				b.WriteString(line)
			}
			b.WriteString("Content-Length: 0\r\n\r\n")
			_, _ = pc.WriteTo([]byte(b.String()), from)
			select {
			case got <- m:
			default:
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return pc.LocalAddr().String(), got
}

func TestBaresipRegisters(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	proxy, requests := registrar(t, "200 OK")
	alice := StartBaresip(t, BaresipConfig{AOR: aliceAOR, Proxy: proxy})
	if err := alice.Register(ctx); err != nil {
		t.Fatal(err)
	}
	if m := <-requests; !strings.Contains(m, "expires=60") {
		t.Errorf("registered with\n%s", m)
	}
	if err := alice.Unregister(ctx); err != nil {
		t.Fatal(err)
	}
	if m := <-requests; !strings.Contains(m, "expires=0") {
		t.Errorf("unregistered with\n%s", m)
	}

	proxy, _ = registrar(t, "403 Forbidden")
	mallory := StartBaresip(t, BaresipConfig{AOR: aliceAOR, Proxy: proxy})
	if err := mallory.Register(ctx); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("refused registration: %v", err)
	}
}

func TestSIPpRegisters(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	proxy, requests := registrar(t, "200 OK")
	bob := NewSIPp(t, SIPpConfig{AOR: bobAOR, Proxy: proxy})
	if err := bob.Register(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	if m := <-requests; !strings.Contains(m, "Contact: <sip:bob@"+bob.Addr()+">;expires=3600") {
		t.Errorf("registered with\n%s", m)
	}
	if err := bob.Unregister(ctx); err != nil {
		t.Fatal(err)
	}
	proxy, _ = registrar(t, "403 Forbidden")
	if err := NewSIPp(t, SIPpConfig{AOR: bobAOR, Proxy: proxy}).Register(ctx, time.Hour); err == nil {
		t.Error("a refused registration passes for a good one")
	}
}

func TestBaresipCallsSIPp(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	bob := NewSIPp(t, SIPpConfig{AOR: bobAOR, Proxy: "127.0.0.1:9"})
	alice := StartBaresip(t, BaresipConfig{AOR: aliceAOR, Proxy: bob.Addr(), ToneHz: 700})
	run := bob.Start(Answer{Ring: 50 * time.Millisecond})
	call := alice.Dial(ctx, bobAOR)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"ringing", func() error { return call.WaitRinging(ctx) }},
		{"established", func() error { return call.WaitEstablished(ctx) }},
		{"audio", func() error { return call.WaitAudio(ctx) }},
		{"tone", func() error { return alice.WaitHeard(ctx, 700) }}, // SIPp echoes
		{"hold", func() error { return call.Hold(ctx) }},
		{"resume", func() error { return call.Resume(ctx) }},
		{"audio again", func() error { return alice.WaitPackets(ctx, 10) }},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	if m, err := run.WaitNth(ctx, 2, "INVITE", false); err != nil || !strings.Contains(m.Text, "a=sendonly") {
		t.Errorf("hold offers\n%s %v", m.Text, err)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}
}

func TestSIPpCallsBaresip(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	alice := StartBaresip(t, BaresipConfig{AOR: aliceAOR, Proxy: "127.0.0.1:9"})
	bob := NewSIPp(t, SIPpConfig{AOR: bobAOR, Proxy: alice.Addr()})
	alice.Ready(ctx)

	run := bob.Start(Call{To: aliceAOR, HoldAfter: 50 * time.Millisecond, HoldFor: 50 * time.Millisecond})
	call, err := alice.WaitIncoming(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := call.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	if err := call.WaitReoffer(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}

	run = bob.Start(Fail{To: aliceAOR, Status: 486})
	if call, err = alice.WaitIncoming(ctx); err != nil {
		t.Fatal(err)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}

	run = bob.Start(Cancel{To: aliceAOR, Ring: 50 * time.Millisecond})
	if call, err = alice.WaitIncoming(ctx); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}
	reason, err := call.WaitClosed(ctx)
	t.Logf("cancelled: %q", reason)
	if err != nil {
		t.Error(err)
	}
}

func TestBaresipFails(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	bob := NewSIPp(t, SIPpConfig{AOR: bobAOR, Proxy: "127.0.0.1:9"})
	alice := StartBaresip(t, BaresipConfig{AOR: aliceAOR, Proxy: bob.Addr()})
	run := bob.Start(Refuse{Status: 404})
	if err := alice.Dial(ctx, bobAOR).WaitEstablished(ctx); !errors.Is(err, ErrCallClosed) || !strings.Contains(err.Error(), "404") {
		t.Errorf("a call answered 404: %v", err)
	}
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}

	run = bob.Start(NoAnswer{})
	call := alice.Dial(ctx, bobAOR)
	if err := call.WaitRinging(ctx); err != nil {
		t.Fatal(err)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}
}
