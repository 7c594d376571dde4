package edge

import (
	"strings"
	"testing"
	"time"
)

const outbound = "Supported: outbound, gruu"

// TestOutboundFlows registers two flows of one phone, loses one and replaces one (RFC 5626 §6).
func TestOutboundFlows(t *testing.T) {
	contact := func(reg string) string {
		return "Contact: <sip:alice@10.0.0.5:5060;transport=tcp;ob>;reg-id=" + reg + instanceAs
	}
	inBubble(t, nil, func(b *bench) {
		alice := aor(t, "alice")
		one, two := tcpFrom("127.0.0.1", 40001), tcpFrom("127.0.0.1", 40002)
		res := b.send(one, ask{lines: []string{contact("1"), outbound}})
		if statusOf(res) != 200 || header(res, "Require") != "outbound" || header(res, "Flow-Timer") == "" {
			t.Fatalf("%s", res)
		}
		time.Sleep(time.Second)
		b.send(two, ask{lines: []string{contact("2"), outbound}})
		expect := func(flow *memFlow, bindings int) {
			t.Helper()
			ts := b.e.Bindings(alice)
			if len(ts) != 1 || ts[0].Flow != flow || ts[0].ID != instance {
				t.Errorf("%+v, want one phone over %v", ts, flow.remote)
			}
			if n := len(b.e.users[alice].phones); n != bindings {
				t.Errorf("%d bindings, want %d", n, bindings)
			}
			if ids := b.pub.ids["alice"]; len(ids) != 1 {
				t.Errorf("published %q", ids)
			}
		}
		expect(two, 2)
		close(two.done)
		b.layer.HandleClosed(two)
		expect(one, 2)
		three := tcpFrom("127.0.0.1", 40003)
		time.Sleep(time.Second)
		b.send(three, ask{lines: []string{contact("2"), outbound}})
		expect(three, 2)
		// It begins anew without.
		four := udpFrom("127.0.0.1", 5070)
		res = b.send(four, ask{lines: []string{"Contact: <sip:alice@127.0.0.1:5070>" + instanceAs, outbound}})
		if header(res, "Require") != "" {
			t.Error("outbound is required of a phone that has no such flow")
		}
		if ts := b.e.Bindings(alice); len(ts) != 1 || ts[0].Flow.Remote() != four.remote {
			t.Errorf("%+v", ts)
		}
	})
}

// TestOutboundReachesTheFlow: what the Contact says does not count for a phone with reg-id, even if it is of this host.
func TestOutboundReachesTheFlow(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, "Contact: <sip:alice@127.0.0.1:9;ob>;reg-id=1"+instanceAs, outbound)
		ts := b.e.Bindings(aor(t, "alice"))
		if len(ts) != 1 || ts[0].Flow.Remote().Port != 5070 || ts[0].URI.Port != 9 {
			t.Errorf("%+v", ts)
		}
		b.register(200, "Contact: <sip:alice@127.0.0.1:9;ob>;reg-id=1"+instanceAs) // not supported: an ordinary contact
		ts = b.e.Bindings(aor(t, "alice"))
		if len(ts) != 1 || ts[0].Flow.Remote().Port != 9 {
			t.Errorf("%+v", ts)
		}
	})
}

func TestOutboundRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		lines  []string
	}{
		"two contacts":    {400, []string{here + ";reg-id=1" + instanceAs, there, outbound}},
		"reg-id 0":        {400, []string{here + ";reg-id=0" + instanceAs, outbound}},
		"reg-id of words": {400, []string{here + ";reg-id=one" + instanceAs, outbound}},
		"behind a proxy":  {439, []string{here + ";reg-id=1" + instanceAs, outbound, "Via: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKfurther"}},
		"no instance":     {200, []string{here + ";reg-id=1", there, outbound}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				res := b.register(c.status, c.lines...)
				if c.status == 439 && !strings.Contains(header(res, "Warning"), "without reg-id") {
					t.Error(header(res, "Warning"))
				}
			})
		})
	}
}

// TestPhoneWithICE tells phones that do ICE by themselves (RFC 5768) from others.
func TestPhoneWithICE(t *testing.T) {
	for params, want := range map[string]bool{"": false, ";+sip.ice": true, ";+SIP.ICE": true, `;+sip.ice="FALSE"`: false, `;+sip.ice="TRUE"`: true} {
		inBubble(t, nil, func(b *bench) {
			b.register(200, "Contact: <sip:alice@127.0.0.1:5070>"+params)
			if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 1 || ts[0].ICE != want {
				t.Errorf("with %q: %+v", params, ts)
			}
			b.close()
			b.start()
			if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 1 || ts[0].ICE != want {
				t.Errorf("with %q after a restart: %+v", params, ts)
			}
		})
	}
}
