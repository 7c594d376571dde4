package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

// What a relay peer may answer to Allocate in bad faith: none of it becomes an allocation, and none takes longer than it may.
func TestHostileAllocate(t *testing.T) {
	relayed := func(c *fakeConn) stun.Setter {
		return xor{attrRelayedAddress, netip.AddrPortFrom(c.relay.addr.Addr(), 4000)}
	}
	mapped := func(c *fakeConn) stun.Setter { return xor{stun.AttrXORMappedAddress, c.local} }
	for name, answer := range map[string]func(c *fakeConn, m *stun.Message){
		"nothing": func(*fakeConn, *stun.Message) {},
		"no integrity": func(c *fakeConn, m *stun.Message) {
			c.reply(m, stun.ClassSuccessResponse, relayed(c), mapped(c), lifetimeOf(time.Minute))
		},
		"wrong integrity": func(c *fakeConn, m *stun.Message) {
			c.reply(m, stun.ClassSuccessResponse, relayed(c), mapped(c), lifetimeOf(time.Minute), stun.NewLongTermIntegrity("a", "b", "c"))
		},
		"other transaction": func(c *fakeConn, m *stun.Message) {
			m.TransactionID[3]++
			c.success(m, relayed(c), mapped(c), lifetimeOf(time.Minute))
		},
		"other method": func(c *fakeConn, m *stun.Message) {
			m.Type.Method = stun.MethodRefresh
			c.success(m, relayed(c), mapped(c), lifetimeOf(time.Minute))
		},
		"no address":        func(c *fakeConn, m *stun.Message) { c.success(m, mapped(c), lifetimeOf(time.Minute)) },
		"no mapped address": func(c *fakeConn, m *stun.Message) { c.success(m, relayed(c), lifetimeOf(time.Minute)) },
		"no lifetime":       func(c *fakeConn, m *stun.Message) { c.success(m, relayed(c), mapped(c)) },
		"lifetime 0":        func(c *fakeConn, m *stun.Message) { c.success(m, relayed(c), mapped(c), lifetimeOf(0)) },
		"port 0": func(c *fakeConn, m *stun.Message) {
			c.success(m, xor{attrRelayedAddress, netip.MustParseAddrPort("198.18.0.1:0")}, mapped(c), lifetimeOf(time.Minute))
		},
		"loopback": func(c *fakeConn, m *stun.Message) {
			c.success(m, xor{attrRelayedAddress, netip.MustParseAddrPort("127.0.0.1:4000")}, mapped(c), lifetimeOf(time.Minute))
		},
		"loopback, mapped": func(c *fakeConn, m *stun.Message) {
			c.success(m, xor{attrRelayedAddress, netip.MustParseAddrPort("[::ffff:127.0.0.1]:4000")}, mapped(c), lifetimeOf(time.Minute))
		},
		"short address": func(c *fakeConn, m *stun.Message) {
			c.success(m, attribute{attrRelayedAddress, []byte{0, 1, 2}}, mapped(c), lifetimeOf(time.Minute))
		},
		"stale for ever":   func(c *fakeConn, m *stun.Message) { c.relay.nonce += "x"; c.challenge(m, stun.CodeStaleNonce) },
		"never authorized": func(c *fakeConn, m *stun.Message) { c.challenge(m, stun.CodeUnauthorized) },
		"no nonce":         func(c *fakeConn, m *stun.Message) { c.refuse(m, stun.CodeStaleNonce, "") },
		"long nonce": func(c *fakeConn, m *stun.Message) {
			c.refuse(m, stun.CodeStaleNonce, "", attribute{stun.AttrNonce, make([]byte, 2000)}, stun.NewRealm("r"))
		},
		"elsewhere": func(c *fakeConn, m *stun.Message) {
			c.refuse(m, stun.CodeTryAlternate, "", attribute{stun.AttrAlternateServer, []byte{0, 1, 0, 80, 10, 0, 0, 1}})
		},
		"no such code": func(c *fakeConn, m *stun.Message) {
			c.reply(m, stun.ClassErrorResponse, attribute{stun.AttrErrorCode, []byte{0, 0, 1, 200}})
		},
		"no code":   func(c *fakeConn, m *stun.Message) { c.reply(m, stun.ClassErrorResponse) },
		"bad words": func(c *fakeConn, m *stun.Message) { c.refuse(m, 500, "\x1b[31mred\n"+strings.Repeat("x", 300)) },
		"noise": func(c *fakeConn, _ *stun.Message) {
			for range 50 {
				b := make([]byte, 300)
				_, _ = rand.Read(b)
				c.send(b)
			}
		},
		"noise that is STUN": func(c *fakeConn, m *stun.Message) {
			for i := range 50 {
				b := append([]byte(nil), m.Raw...)
				b[0], b[1] = 1, 3
				b[2+i%18] ^= byte(i + 1)
				c.send(b)
			}
		},
		"huge": func(c *fakeConn, _ *stun.Message) { c.send(make([]byte, 65535)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newFakeRelay(0)
				r.answer = func(c *fakeConn, m *stun.Message) bool {
					if m.Type.Method != stun.MethodAllocate {
						return false
					}
					answer(c, m)
					return true
				}
				w, _ := virtual(t, r)
				p := w.pool(func(c *Config) { c.Dial, c.Permit = dialer(r), permitted })
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				begun := time.Now()
				list, err := p.Allocate(ctx, 1)
				if err == nil || len(list) > 0 || !errors.Is(err, ErrNoRelay) {
					t.Errorf("%d allocations, %v", len(list), err)
				}
				if d := time.Since(begun); d > attemptTime+searchPause {
					t.Errorf("it took %v", d)
				}
				if n := r.asked(stun.MethodAllocate); n > 3*maxSends {
					t.Errorf("it was asked %d times", n)
				}
				if s := err.Error(); strings.ContainsAny(s, "\x1b") || len(s) > 1000 {
					t.Errorf("the error is %q", s)
				}
			})
		})
	}
}

// Whatever comes beside what was asked for has no effect on an allocation.
func TestHostileData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRelay(0)
		w, _ := virtual(t, r)
		a := one(t, w.pool(func(c *Config) { c.Dial = dialer(r) }))
		far := netip.MustParseAddrPort("203.0.113.1:4000")
		if _, err := a.WriteToAddrPort([]byte("hello"), far); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		conn := a.link.conn.(*fakeConn)
		send := func(b []byte) { r.do(func() { conn.send(b) }); synctest.Wait() }
		data := func(from netip.AddrPort, d []byte) []byte {
			m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodData, stun.ClassIndication), xor{attrPeerAddress, from}, attribute{attrData, d})
			if err != nil {
				t.Fatal(err)
			}
			return m.Raw
		}
		send(data(netip.MustParseAddrPort("203.0.113.2:4000"), []byte("a stranger")))
		send([]byte{0x40, 0, 0, 1, 'x'})       // a channel that was not bound
		send([]byte{0x4f, 0xff, 0, 200, 1, 2}) // longer than it is
		send(data(far, nil))                   // empty, which is allowed
		send(data(far, []byte("good")))
		for range 2 * maxNonsense {
			send([]byte("\x00\x01\x00\x00nonsense and more of it"))
		}
		req, _ := stun.Build(stun.TransactionID, stun.BindingRequest)
		send(req.Raw)
		b := make([]byte, 100)
		for _, want := range []string{"", "good"} {
			n, from, err := a.ReadFromAddrPort(b)
			if err != nil || from != far || string(b[:n]) != want {
				t.Fatalf("%q from %s, %v; %q was expected", b[:n], from, err, want)
			}
		}
		if s := a.Stats(); s.Strange != 2 || s.Received != 2 {
			t.Errorf("%+v", s)
		}
		if a.Err() != nil {
			t.Errorf("it ended: %v", a.Err())
		}

		// What is not read is bounded, and the newest is kept.
		big := bytes.Repeat([]byte{'b'}, 1200)
		for range 2000 {
			send(data(far, big))
		}
		a.inbox.mu.Lock()
		queued, packets := a.inbox.bytes, a.inbox.waiting()
		a.inbox.mu.Unlock()
		if queued > maxQueuedBytes || packets > maxQueued {
			t.Errorf("%d bytes in %d packets wait", queued, packets)
		}
		if s := a.Stats(); s.Dropped == 0 || s.Dropped+uint64(packets) != 2000 {
			t.Errorf("%d dropped, %d kept", s.Dropped, packets)
		}
	})
}

// Permissions that are refused fail what is sent there, and nothing else.
func TestPermissionRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRelay(0)
		bad := netip.MustParseAddr("10.0.0.1")
		r.answer = func(c *fakeConn, m *stun.Message) bool {
			if m.Type.Method != stun.MethodCreatePermission && m.Type.Method != stun.MethodChannelBind {
				return false
			}
			refused := false
			_ = m.ForEach(attrPeerAddress, func(m *stun.Message) error {
				a, err := addressIn(m, attrPeerAddress)
				refused = refused || err == nil && a.Addr() == bad
				return nil
			})
			if refused {
				c.refuse(m, stun.CodeForbidden, "Forbidden")
			}
			return refused
		}
		w, _ := virtual(t, r)
		a := one(t, w.pool(func(c *Config) { c.Dial = dialer(r) }))
		if err := a.Permit(bad); !errors.Is(err, errPermitted) || codeOf(err) != codeForbidden {
			t.Errorf("Permit: %v", err)
		}
		if _, err := a.WriteToAddrPort([]byte("x"), netip.AddrPortFrom(bad, 1)); codeOf(err) != codeForbidden {
			t.Errorf("WriteTo: %v", err)
		}
		good := netip.MustParseAddr("203.0.113.1")
		if err := a.Permit(good); err != nil {
			t.Error(err)
		}
		asked := r.asked(stun.MethodCreatePermission)
		for range 100 {
			_, _ = a.WriteToAddrPort([]byte("x"), netip.AddrPortFrom(bad, 1))
		}
		if r.asked(stun.MethodCreatePermission) != asked {
			t.Error("a permission that was refused is asked for again at once")
		}
		time.Sleep(2 * permitEvery)
		a.mu.Lock()
		defer a.mu.Unlock()
		if p := a.perms[good]; p == nil || p.state != permGiven {
			t.Error("the refused one took the other with it")
		}
	})
}

func TestWritesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRelay(0)
		w, _ := virtual(t, r)
		a := one(t, w.pool(func(c *Config) { c.Dial = dialer(r) }))
		for i := range 5000 {
			to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), uint16(1+i%7))
			for range 1 + i%3*10 {
				_, _ = a.WriteToAddrPort([]byte("x"), to)
			}
			if i%50 == 0 {
				synctest.Wait()
			}
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.perms) > maxPermissions || len(a.targets) > maxTargets || len(a.channels) > maxChannels {
			t.Errorf("%d permissions, %d targets, %d channels", len(a.perms), len(a.targets), len(a.channels))
		}
	})
	for _, to := range []string{"0.0.0.0:1", "224.0.0.1:1", "[2001:db8::1]:1", "203.0.113.1:0"} {
		synctest.Test(t, func(t *testing.T) {
			r := newFakeRelay(0)
			w, _ := virtual(t, r)
			a := one(t, w.pool(func(c *Config) { c.Dial = dialer(r) }))
			if _, err := a.WriteToAddrPort([]byte("x"), netip.MustParseAddrPort(to)); err == nil {
				t.Errorf("data was sent to %s", to)
			}
		})
	}
}

// Garbage over a connection ends it, and so does one that stops in the middle.
func TestHostileStream(t *testing.T) {
	for name, octets := range map[string][]byte{
		"neither STUN nor data": []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"odd length":            {0, 1, 0, 3, 0, 0, 0, 0},
		"too long":              {0, 1, 0xff, 0xfc},
		"channel too long":      {0x40, 0, 0xff, 0xff},
		"cut":                   {0, 1, 0, 8, 1},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			l := newLink(here, true, nil)
			go func() {
				_, _ = there.Write(octets)
				_ = there.Close()
			}()
			<-l.done
			l.close()
			if !errors.Is(l.reason(), errBroken) {
				t.Errorf("it ended with %v", l.reason())
			}
		})
	}
	t.Run("nonsense", func(t *testing.T) {
		here, there := net.Pipe()
		l := newLink(here, true, nil)
		go func() {
			for {
				if _, err := there.Write([]byte{0x40, 0, 0, 1, 'x', 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); err != nil {
					return
				}
			}
		}()
		<-l.done
		l.close()
		_ = there.Close()
	})
}

// A relay peer that gives a useless credential, or none, or thinks for ever, costs no more than a dead one.
func TestHostileCredentials(t *testing.T) {
	for name, grant := range map[string]func() (credential.Grant, error){
		"run out": func() (credential.Grant, error) {
			return credential.Grant{Username: "x", Password: "x", Realm: "x"}, nil
		},
		"refused": func() (credential.Grant, error) {
			return credential.Grant{}, &credential.Refusal{Code: credential.CodeQuota, Reason: "no", Retry: time.Hour}
		},
		"no stream": func() (credential.Grant, error) { return credential.Grant{}, overlay.ErrUnreachable },
		"thinks":    nil,
		"no endpoint": func() (credential.Grant, error) {
			return credential.Grant{URIs: []string{"turn:relay.example"}, Username: "x", Password: "x", Lifetime: time.Hour}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				good := newFakeRelay(0)
				w, _ := virtual(t, good)
				var uris []string
				if name != "no endpoint" {
					uris = []string{"turn:" + newFakeRelay(1).addr.String()}
				}
				bad := w.relayFunc(grant, uris...)
				if grant == nil {
					w.grants[bad] = nil
				}
				p := w.pool(func(c *Config) { c.Dial = dialer(good, newFakeRelay(1)) })
				begun := time.Now()
				list, err := p.Allocate(t.Context(), 2)
				if err != nil || len(list) != 1 {
					t.Errorf("%d allocations, %v", len(list), err)
				}
				if d := time.Since(begun); d > strangerTime {
					t.Errorf("it took %v", d)
				}
				time.Sleep(5 * time.Second)
				told := w.failures(bad) > 0
				if want := name != "refused"; told != want {
					t.Errorf("the overlay was told of a failure: %v", told)
				}
			})
		})
	}
}

// Only who was asked is believed about the reflexive address.
func TestHostileReflexive(t *testing.T) {
	listen := func() net.PacketConn {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	server, stranger, conn := listen(), listen(), listen()
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		n, from, err := server.ReadFrom(b)
		if err != nil {
			return
		}
		m := &stun.Message{Raw: b[:n]}
		_ = m.Decode()
		answer := func(c net.PacketConn, id transactionID, at string) {
			r, _ := stun.Build(stun.NewTransactionIDSetter(id), stun.BindingSuccess, xor{stun.AttrXORMappedAddress, netip.MustParseAddrPort(at)})
			_, _ = c.WriteTo(r.Raw, from)
		}
		answer(stranger, m.TransactionID, "192.0.2.66:1")
		answer(server, transactionID{1}, "192.0.2.66:2")
		answer(server, m.TransactionID, "192.0.2.66:0")
		_, _ = server.WriteTo([]byte("noise"), from)
		answer(server, m.TransactionID, "192.0.2.7:4000")
	}()
	got, err := reflexive(t.Context(), conn, []netip.AddrPort{netip.MustParseAddrPort(server.LocalAddr().String())})
	if err != nil || got.String() != "192.0.2.7:4000" {
		t.Errorf("got %s, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if got, err := reflexive(ctx, conn, []netip.AddrPort{netip.MustParseAddrPort(stranger.LocalAddr().String())}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %s, %v", got, err)
	}
}
