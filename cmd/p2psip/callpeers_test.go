package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone"
	"p2psip/interwork/phone/audio"
	"p2psip/interwork/phonetest"
)

// caller is one `p2psip call --json` under way.
type caller struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err bytes.Buffer
}

// startCall has user0 call somebody.
func (f *fleet) startCall(t *testing.T, to string, args ...string) *caller {
	t.Helper()
	c := &caller{t: t}
	c.cmd = exec.Command(binary, append([]string{"call", to, "--data", f.nodes[0].data, "--json"}, args...)...)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	return c
}

// wait gives the report and the exit code.
func (c *caller) wait() (r callReport, code int) {
	c.t.Helper()
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		c.t.Fatal(err)
	}
	if err := json.Unmarshal(c.out.Bytes(), &r); err != nil {
		c.t.Fatalf("exit code %d: %v\n%s%s", code, err, &c.out, &c.err)
	}
	return r, code
}

// TestCallPeers has `p2psip call` and `p2psip echo` talk to phones that nobody of this project wrote, across two nodes that
// move and encrypt the sound.
func TestCallPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("two processes and two phones take half a minute")
	}
	phonetest.Need(t, "sipp")
	phonetest.Need(t, "baresip")
	f := newFleet(t, 2, 4)
	t.Run("baresip", f.callBaresip)
	t.Run("SIPp", f.callSIPp)
	t.Run("echo", f.baresipCallsEcho)
	t.Run("silence", f.callSilence)
}

func (f *fleet) callBaresip(t *testing.T) {
	for _, codec := range []string{"PCMU", "PCMA"} {
		said, reply := phonetest.Speech(1, 3*time.Second), phonetest.Speech(2, 3*time.Second)
		b := phonetest.StartBaresip(t, phonetest.BaresipConfig{
			AOR: "sip:user1@" + fleetOverlay, Proxy: f.nodes[1].sip, Expires: time.Hour, Sound: reply, Codecs: codec, Answer: true,
		})
		must(t, "register", b.Register(callContext(t)))
		dir := t.TempDir()
		wav, recorded := filepath.Join(dir, "said.wav"), filepath.Join(dir, "heard.wav")
		must(t, "write", os.WriteFile(wav, audio.Wav(said), 0o600))
		// baresip reports every five seconds.
		r, code := f.startCall(t, "user1", "--wav", wav, "--record", recorded, "--for", "7s").wait()
		if code != exitOK || r.Outcome != outcomeAnswered || r.Codec != codec || r.Lost > 2 || r.MOS < 2 || r.AudioMS <= 0 || r.EndedBy != "here" {
			t.Errorf("%s: exit code %d, %+v", codec, code, r)
		}
		if r.Path == nil || r.Path.Kind != "host" || r.Path.Encrypted != "node to node" || r.Path.Phone != "no" {
			t.Errorf("%s: path %+v", codec, r.Path)
		}
		if r.Far == nil || r.Far.Lost > 5 || r.DelayMS == nil || *r.DelayMS > 250 {
			t.Errorf("%s: what baresip reports: %+v, delay %v", codec, r.Far, r.DelayMS)
		}
		must(t, codec+": what baresip has heard", b.WaitRecording(callContext(t), said[audio.Rate:audio.Rate+audio.Rate/4], 0.95))
		raw, err := os.ReadFile(recorded)
		must(t, "read", err)
		heard, err := audio.ParseWav(raw)
		must(t, "read", err)
		if good := soundPieces(reply[audio.Rate:2*audio.Rate], heard); good < 3 {
			t.Errorf("%s: of five pieces that baresip played, %d were recorded", codec, good)
		}
		must(t, "unregister", b.Unregister(callContext(t)))
		b.Stop()
	}
}

func (f *fleet) callSIPp(t *testing.T) {
	s := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: "sip:user1@" + fleetOverlay, Proxy: f.nodes[1].sip})
	register(t, callContext(t), s)
	for _, tc := range []struct {
		name     string
		scenario phonetest.Scenario
		args     []string
		code     int
		outcome  string
	}{
		{"hangs up", phonetest.Answer{Ring: brief, HangUp: 2 * time.Second}, []string{"--for", "20s"}, exitOK, outcomeAnswered},
		{"holds", phonetest.Answer{HoldAfter: 500 * time.Millisecond, HoldFor: 500 * time.Millisecond}, []string{"--for", "2s"}, exitOK, outcomeAnswered},
		{"is busy", phonetest.Refuse{}, nil, exitBusy, outcomeBusy},
		{"declines", phonetest.Refuse{Status: 603, Ring: brief}, nil, exitDeclined, outcomeDeclined},
		{"has no codec", phonetest.Refuse{Status: 488}, nil, exitFailed, outcomeCodec},
		{"does not answer", phonetest.NoAnswer{}, []string{"--ring", "1s"}, exitNoAnswer, outcomeNoAnswer},
		{"gives up ringing", phonetest.Refuse{Status: 480, Ring: brief}, nil, exitNoAnswer, outcomeNoAnswer},
	} {
		run := s.Start(tc.scenario)
		r, code := f.startCall(t, "user1", tc.args...).wait()
		if code != tc.code || r.Outcome != tc.outcome {
			t.Errorf("SIPp %s: exit code %d, %+v", tc.name, code, r)
		}
		if tc.code == exitOK && (r.Received < 30 || r.HeardHz < 430 || r.HeardHz > 450) { // SIPp echoes
			t.Errorf("SIPp %s: %+v", tc.name, r)
		}
		if tc.name == "hangs up" && (r.EndedBy != "far side" || r.RingingMS <= 0 || r.TalkMS > 10000) {
			t.Errorf("SIPp %s: %+v", tc.name, r)
		}
		must(t, "SIPp "+tc.name, run.Wait(callContext(t)))
		f.settled(0, 1)
	}

	// Ctrl-C while it rings is a CANCEL.
	run := s.Start(phonetest.NoAnswer{})
	c := f.startCall(t, "user1")
	_, err := run.WaitSent(callContext(t), "180")
	must(t, "ringing", err)
	must(t, "interrupt", c.cmd.Process.Signal(syscall.SIGINT))
	if r, code := c.wait(); code != exitFailed || r.Outcome != outcomeCancelled {
		t.Errorf("interrupted while it rang: exit code %d, %+v", code, r)
	}
	must(t, "SIPp is cancelled", run.Wait(callContext(t)))
	must(t, "unregister", s.Unregister(callContext(t)))
}

// callSilence calls a phone that answers and sends nothing.
func (f *fleet) callSilence(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, "listen", err)
	mute, err := phone.New(phone.Config{
		AOR: "sip:user1@" + fleetOverlay, Outbound: f.nodes[1].sip, Local: pc, Silent: true, Incoming: phone.AnswerAfter(0), Logger: slog.New(slog.DiscardHandler),
	})
	must(t, "start the phone", err)
	defer mute.Close()
	_, err = mute.Register(callContext(t), time.Hour)
	must(t, "register", err)
	r, code := f.startCall(t, "user1", "--for", "1s").wait()
	if code != exitNoMedia || r.Outcome != outcomeNoMedia || r.Sent < 20 || r.Received != 0 || r.MOS != 0 || r.Error == "" {
		t.Errorf("exit code %d, %+v", code, r)
	}
	must(t, "unregister", mute.Unregister(callContext(t)))
}

func (f *fleet) baresipCallsEcho(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "echo", "--data", f.nodes[0].data, "--allow", "user1", "--json")
	var out safeBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	must(t, "start the echo", cmd.Start())
	f.nodes[0].wait("to have the echo's phone", func(s *node.Status) bool { return len(s.Phones.Users) == 1 && s.Phones.Users[0].Published })
	said := phonetest.Speech(5, 20*time.Second)
	b := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: "sip:user1@" + fleetOverlay, Proxy: f.nodes[1].sip, Expires: time.Hour, Sound: said})
	must(t, "register", b.Register(callContext(t)))
	call := b.Dial(callContext(t), "sip:user0@"+fleetOverlay)
	must(t, "answered", call.WaitEstablished(callContext(t)))
	must(t, "what came back", b.WaitRecording(callContext(t), said[audio.Rate:audio.Rate+audio.Rate/4], 0.95))
	must(t, "hang up", call.Hangup(callContext(t)))
	f.nodes[0].wait("to have no call", func(s *node.Status) bool { return len(s.Calls) == 0 })
	must(t, "unregister", b.Unregister(callContext(t)))
	cancel()
	if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the echo: %v\n%s", err, out.String())
	}
	for _, event := range []string{`"event":"answered"`, `"caller":"sip:user1@`, `"event":"ended"`, `"event":"stopping"`} {
		if !strings.Contains(out.String(), event) {
			t.Errorf("the echo does not tell %s:\n%s", event, out.String())
		}
	}
}
