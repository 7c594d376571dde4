//go:build linux

package main

import (
	"bytes"
	endian "encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone/audio"
)

// neighbours has two people in one home call each other, and two homes behind one provider's NAT, with hairpinning and without.
func (o *labOverlay) neighbours(t *testing.T) {
	for _, c := range []struct{ kind, want string }{{"lan", "host"}, {"hair", "reflexive"}, {"bald", "relayed"}} {
		t.Run(c.kind, func(t *testing.T) {
			r := o.call(c.kind+"1", c.kind+"2", 3*time.Second, nil)
			t.Log(r)
			if r.err != nil {
				t.Fatal(r.err)
			}
			if r.media == nil || r.media.Path != c.want || r.media.Encrypted != "node to node" {
				t.Errorf("the path was not %s", c.want)
			}
			if r.AudioMS == 0 || r.Lost > r.Sent/20 {
				t.Error("the sound was not heard well")
			}
		})
	}
}

// voice makes seconds of something that no other second is like: steps between tones, with pauses.
func voice(seconds int) []int16 {
	var out []int16
	dice := rand.New(rand.NewPCG(1, 2))
	for len(out) < seconds*audio.Rate {
		n := audio.Rate/20 + dice.IntN(audio.Rate/10)
		if dice.IntN(4) == 0 {
			out = append(out, make([]int16, n/2)...)
			continue
		}
		tone := audio.Tone{Hz: 200 + 2000*dice.Float64()}
		out = tone.Next(out, n)
	}
	return out[:seconds*audio.Rate]
}

// sniff gives the UDP payloads that pass an interface of a namespace until stop is called.
func (l *natLab) sniff(t *testing.T, space, device string) (stop func() [][]byte) {
	t.Helper()
	fd := -1
	err := l.inside(space, func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(htons(unix.ETH_P_IP))); err != nil {
			return err
		}
		var ifr *unix.Ifreq
		if ifr, err = unix.NewIfreq(device); err != nil {
			return err
		}
		if err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: int(ifr.Uint32())})
	})
	if err != nil {
		t.Fatalf("%s of %s: %v", device, space, err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000})
	quit := make(chan struct{})
	var got [][]byte
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 2048)
		for {
			select {
			case <-quit:
				return
			default:
			}
			n, err := unix.Read(fd, b)
			if err != nil || n < 28 || b[9] != 17 {
				continue
			}
			if head := int(b[0]&15) * 4; n > head+8 {
				got = append(got, bytes.Clone(b[head+8:n]))
			}
		}
	})
	return sync.OnceValue(func() [][]byte {
		close(quit)
		wg.Wait()
		unix.Close(fd)
		return got
	})
}

func htons(v uint16) uint16 { return endian.NativeEndian.Uint16(endian.BigEndian.AppendUint16(nil, v)) }

// clear counts the datagrams that carry 20 ms of a tone in G.711 which anybody can hear: 20 ms of it have few different octets, those of
// a cipher have many.
func clear(got [][]byte) (large, clear int) {
	for _, b := range got {
		if len(b) < 172 || len(b) > 260 {
			continue
		}
		large++
		for end := len(b); end >= max(172, len(b)-24); end-- { // behind it there may be a tag, or padding
			if head := b[end-172:]; head[0]>>6 != 2 || head[1]&0x7f != 0 && head[1]&0x7f != 8 {
				continue // no RTP begins there, which SRTP leaves in clear too (RFC 3711 §3.1)
			}
			different := map[byte]bool{}
			for _, o := range b[end-160 : end] {
				different[o] = true
			}
			if len(different) < 70 { // of 160 octets at random 119 are different, give or take 5
				clear++
				break
			}
		}
	}
	return large, clear
}

// capture looks at what passes during a call: at the caller's phone anybody can hear it, at the home's router and at the relay
// peers nobody can.
func (o *labOverlay) capture(t *testing.T) {
	for _, pair := range [][2]string{{"sym1", "sym2"}, {"port1", "port2"}, {"noudp1", "sym2"}} {
		t.Run(pair[0]+" calls "+pair[1], func(t *testing.T) {
			phone := o.lab.sniff(t, pair[0], "lo")
			outside := map[string]func() [][]byte{pair[0]: o.lab.sniff(t, pair[0]+"r", "wan"), pair[1]: o.lab.sniff(t, pair[1]+"r", "wan")}
			for i := 2; i <= 4; i++ {
				name := fmt.Sprintf("pub%d", i)
				outside[name] = o.lab.sniff(t, name, "wan")
			}
			wav, heard := filepath.Join(t.TempDir(), "sent.wav"), filepath.Join(t.TempDir(), "heard.wav")
			sent := voice(4)
			if err := os.WriteFile(wav, audio.Wav(sent), 0o600); err != nil {
				t.Fatal(err)
			}
			r := o.call(pair[0], pair[1], 6*time.Second, nil, "--wav", wav, "--record", heard)
			t.Log(r)
			if r.err != nil {
				t.Fatal(r.err)
			}
			if n, open := clear(phone()); n < 200 || open < n/3 {
				t.Errorf("of %d packets between phone and node %d are in clear: this test would see nothing", n, open)
			}
			total := 0
			for where, stop := range outside {
				n, open := clear(stop())
				t.Logf("%s: %d packets of that size, %d in clear", where, n, open)
				if open > 0 {
					t.Errorf("%s: %d packets can be heard by anybody", where, open)
				}
				total += n
			}
			if total < 300 {
				t.Errorf("only %d packets of the call were seen outside", total)
			}
			cameBack(t, sent, heard)
		})
	}
}

// relayOf names the relay peer of a path: the caller's own before the callee's.
func relayOf(m *node.CallMedia) string {
	for _, a := range []netip.AddrPort{m.Streams[0].Local, m.Streams[0].Remote} {
		for i := 2; i <= 4; i++ {
			if a.Addr().String() == fmt.Sprintf("45.%d.0.10", i) {
				return fmt.Sprintf("pub%d", i)
			}
		}
	}
	return ""
}

// relayKilled kills the relay peer that a call goes through.
func (o *labOverlay) relayKilled(t *testing.T) {
	for _, pair := range [][2]string{{"sym1", "sym2"}, {"port1", "sym2"}, {"noudp1", "full2"}, {"sym1", "noudp2"}} {
		t.Run(pair[0]+" calls "+pair[1], func(t *testing.T) {
			name := ""
			var was *node.CallMedia
			r := o.call(pair[0], pair[1], 14*time.Second, func(m *node.CallMedia) {
				time.Sleep(4 * time.Second)
				if was, name = m, relayOf(m); name != "" {
					_ = o.nodes[name].cmd.Process.Kill()
					<-o.nodes[name].done
				}
			})
			t.Log(r)
			if name != "" {
				at := "45." + name[3:] + ".0.10"
				o.start(o.lab.t, name, "--bootstrap", o.first, "--relay", "udp:"+at+":3478", "--relay", "tcp:"+at+":3478", "--relay", "tls:"+at+":443")
				o.wait(t, name, "to be advertised again", func(s *node.Status) bool { return s.Relay.Adverts > 0 })
			}
			switch {
			case r.err != nil:
				t.Fatal(r.err)
			case name == "":
				t.Fatalf("the call went through no relay peer: %+v", was)
			case relayOf(r.media) == name:
				t.Errorf("the sound still goes through %s", name)
			case r.GapMS > 3000 || r.TalkMS < 13000:
				t.Errorf("a silence of %.0f ms in a call of %.0f ms", r.GapMS, r.TalkMS)
			}
			t.Logf("%s was killed: a silence of %.0f ms", name, r.GapMS)
		})
	}
}

// seenAt is the address that a home's router has outside.
func (o *labOverlay) seenAt(t *testing.T, home string) string {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", o.lab.name+"-"+home+"r", "ip", "-4", "-o", "address", "show", "dev", "wan").Output()
	if err != nil {
		t.Fatal(err)
	}
	if f := strings.Fields(string(out)); len(f) > 3 {
		return f[3]
	}
	return ""
}

// switched gives a home's router another address in the middle of a call.
func (o *labOverlay) switched(t *testing.T) {
	for _, pair := range [][2]string{{"full1", "port2"}, {"port1", "addr2"}, {"sym1", "sym2"}, {"noudp1", "port2"}} {
		t.Run(pair[0]+" calls "+pair[1], func(t *testing.T) {
			var before *node.CallMedia
			r := o.call(pair[0], pair[1], 16*time.Second, func(m *node.CallMedia) {
				before = m
				time.Sleep(4 * time.Second)
				o.lab.script("switch", pair[0])
			})
			t.Log(r)
			switch {
			case r.err != nil:
				t.Fatal(r.err)
			case r.GapMS > 5000 || r.TalkMS < 15000:
				t.Errorf("a silence of %.0f ms in a call of %.0f ms", r.GapMS, r.TalkMS)
			case before == nil || !slices.Contains([]string{"reflexive", "relayed"}, before.Path):
				t.Errorf("the path was %+v", before)
			}
			if n := o.seenAt(t, pair[0]); !strings.HasPrefix(n, "45.1") {
				t.Errorf("the home is still seen at %s: this test would see nothing", n)
			}
			t.Logf("%s has another address: a silence of %.0f ms", pair[0], r.GapMS)
		})
	}
}
