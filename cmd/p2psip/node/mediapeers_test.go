package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"p2psip/interwork/phone/audio"
	"p2psip/interwork/phonetest"
)

// TestMediaBaresip has two baresips at two nodes speak with each other, hold and resume. What each has recorded is compared
// with what the other played.
func TestMediaBaresip(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	w := newMediaWorld(t, "alice", "bob")
	said := [2][]int16{phonetest.Speech(1, 3*time.Second), phonetest.Speech(2, 3*time.Second)}
	var phones [2]*phonetest.Baresip
	for i, user := range []string{"alice", "bob"} {
		phones[i] = phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: "sip:" + user + "@" + testID, Proxy: w.nodes[i].SIP().String(), Sound: said[i]})
		if err := phones[i].Register(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	ctx := testContext(t)
	out, in := established(t, ctx, phones[0], phones[1], "sip:bob@"+testID)
	for i, p := range phones {
		piece := said[1-i][audio.Rate : audio.Rate+audio.Rate/2]
		if err := p.WaitRecording(ctx, piece, 0.98); err != nil {
			t.Error(err)
		}
	}
	for _, n := range w.nodes {
		if m := w.call(n); m.Path != "host" || m.Encrypted != encryptedNodes {
			t.Errorf("status: %+v", m)
		}
	}
	if err := out.Hold(ctx); err != nil {
		t.Fatal(err)
	}
	if err := in.WaitReoffer(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := out.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	for _, p := range phones { // baresip records nothing any more
		if err := p.WaitPackets(ctx, 50); err != nil {
			t.Error(err)
		}
	}
	if err := out.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := in.WaitClosed(ctx); err != nil {
		t.Error(err)
	}
	w.idle()

	// Every message that a phone saw names its own node as the place for sound, and nothing that it did not ask for.
	for i, p := range phones {
		for _, no := range []string{"a=candidate", "a=fingerprint", "SAVP"} {
			if strings.Contains(p.Log(), no) {
				t.Errorf("phone %d has seen %s", i, no)
			}
		}
	}
}

// TestMediaSIPp has baresip call a SIPp that sends back what it hears: the sound goes through both nodes twice.
func TestMediaSIPp(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	w := newMediaWorld(t, "alice", "bob")
	said := phonetest.Speech(1, 3*time.Second)
	alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: "sip:alice@" + testID, Proxy: w.nodes[0].SIP().String(), Sound: said})
	bob := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: "sip:bob@" + testID, Proxy: w.nodes[1].SIP().String()})
	ctx := testContext(t)
	if err := alice.Register(ctx); err != nil {
		t.Fatal(err)
	}
	if err := bob.Register(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	run := bob.Start(phonetest.Answer{Ring: 50 * time.Millisecond})
	out := alice.Dial(ctx, "sip:bob@"+testID)
	if err := out.WaitEstablished(ctx); err != nil {
		t.Fatal(err)
	}
	heard, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := alice.WaitRecording(heard, said[audio.Rate:audio.Rate+audio.Rate/2], 0.98); err != nil {
		t.Error(err)
	}
	if err := out.Hold(ctx); err != nil {
		t.Fatal(err)
	}
	if err := out.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if err := alice.WaitPackets(ctx, 25); err != nil {
		t.Error(err)
	}
	if err := out.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}
	w.idle()

	// And the other way round: SIPp calls.
	caller := bob.Start(phonetest.Call{To: "sip:alice@" + testID, HangUp: 300 * time.Millisecond})
	in, err := alice.WaitIncoming(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	if err := caller.Wait(ctx); err != nil {
		t.Error(err)
	}
	if _, err := in.WaitClosed(ctx); err != nil {
		t.Error(err)
	}
	w.idle()
}
