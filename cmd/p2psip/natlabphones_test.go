//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"p2psip/interwork/phone/audio"
	"p2psip/interwork/phonetest"
)

// phones has phones of others beside the nodes: baresip at either end, each of which plays its own sound and records what it hears.
func (o *labOverlay) phones(t *testing.T) {
	phonetest.Need(t, "baresip")
	sounds := [2][]int16{voice(20), backwards(voice(20))}
	for _, pair := range [][2]string{{"port2", "addr1"}, {"sym2", "port1"}, {"noudp2", "sym1"}} {
		t.Run(pair[0]+" calls "+pair[1], func(t *testing.T) {
			ctx := callContext(t)
			var phones [2]*phonetest.Baresip
			for i, home := range pair {
				err := o.lab.inside(home, func() error {
					phones[i] = phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: "sip:" + home + "@" + fleetOverlay, Proxy: "127.0.0.1:5060", Sound: sounds[i]})
					return nil
				})
				must(t, "baresip in "+home, err)
			}
			must(t, "register", phones[1].Register(ctx))
			phones[0].Ready(ctx)
			began := time.Now()
			call := phones[0].Dial(ctx, "sip:"+pair[1]+"@"+fleetOverlay)
			in, err := phones[1].WaitIncoming(ctx)
			must(t, "the call arrives", err)
			must(t, "answer", in.Accept(ctx))
			must(t, "answer", call.WaitEstablished(ctx))
			t.Logf("answered after %v", time.Since(began).Round(time.Millisecond))
			for i, p := range phones {
				piece := sounds[1-i][3*audio.Rate : 3*audio.Rate+audio.Rate/4]
				must(t, pair[i]+" hears what "+pair[1-i]+" plays", p.WaitRecording(ctx, piece, 0.98))
			}
			for _, c := range o.status(pair[0]).Calls {
				if m := c.Media; m != nil {
					want := labPath(pair[0][:len(pair[0])-1], pair[1][:len(pair[1])-1])
					t.Logf("%s, %s (%s to %s %s)", m.Path, m.Encrypted, m.Streams[0].Local, m.Streams[0].RemoteType, m.Streams[0].Remote)
					if m.Path != want || m.Encrypted != "node to node" {
						t.Errorf("want %s", want)
					}
				}
			}
			must(t, "hang up", in.Hangup(ctx))
			_, err = call.WaitClosed(ctx)
			must(t, "the end", err)
		})
	}
}

// sipp has SIPp answer in a home and send back what it hears.
func (o *labOverlay) sipp(t *testing.T) {
	phonetest.Need(t, "sipp")
	for _, pair := range [][2]string{{"port2", "full1"}, {"sym2", "noudp1"}} {
		t.Run(pair[0]+" calls "+pair[1], func(t *testing.T) {
			ctx := callContext(t)
			var run *phonetest.Run
			must(t, "SIPp in "+pair[1], o.lab.inside(pair[1], func() error {
				far := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: "sip:" + pair[1] + "@" + fleetOverlay, Proxy: "127.0.0.1:5060"})
				register(t, ctx, far)
				run = far.Start(phonetest.Answer{})
				return nil
			}))
			sent := voice(4)
			wav, heard := filepath.Join(t.TempDir(), "sent.wav"), filepath.Join(t.TempDir(), "heard.wav")
			must(t, "a sound", os.WriteFile(wav, audio.Wav(sent), 0o600))
			r := o.call(pair[0], pair[1], 6*time.Second, nil, "--wav", wav, "--record", heard)
			t.Log(r)
			must(t, "the call", r.err)
			must(t, "SIPp", run.Wait(ctx))
			if want := labPath(pair[0][:len(pair[0])-1], pair[1][:len(pair[1])-1]); r.media == nil || r.media.Path != want || r.media.Encrypted != "node to node" {
				t.Errorf("the path was not %s", want)
			}
			cameBack(t, sent, heard)
		})
	}
}

// cameBack compares what was sent with what was heard of its echo, piece by piece, as a buffer may have moved one against the next
// when packets were late.
func cameBack(t *testing.T, sent []int16, heard string) {
	t.Helper()
	b, err := os.ReadFile(heard)
	must(t, "what was heard", err)
	back, err := audio.ParseWav(b)
	must(t, "what was heard", err)
	good := 0
	for at := audio.Rate / 2; at < 3*audio.Rate; at += audio.Rate / 4 {
		if match, _ := audio.Match(sent[at:at+audio.Rate/4], back); match > 0.98 {
			good++
		}
	}
	if good < 8 {
		t.Errorf("of 10 pieces of the sound that was sent %d came back", good)
	}
}

func backwards(s []int16) []int16 {
	out := make([]int16, len(s))
	for i, v := range s {
		out[len(s)-1-i] = v
	}
	return out
}
