package sim_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"

	"p2psip/overlay"
	"p2psip/sim/network"
)

// calibration is what an operation costs, on average.
type calibration struct {
	hops, lookup, publish, unknown, requests, routing float64
}

// calibrate runs 40 nodes with the same keys over hosts of one kind and does the same operations.
func calibrate(newHost func(key crypto.PrivKey) (host.Host, error)) (c calibration, err error) {
	const nodes, lookups = 40, 12
	fail := func(e error) (calibration, error) { return c, e }
	auth, err := overlay.NewAuthority(overlay.DocumentOptions{ID: "p2psip.example", DHT: overlay.DHTParams{BucketSize: 6}}, time.Now())
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var peers []*overlay.Peer
	defer func() {
		for _, p := range peers {
			p.Close()
		}
	}()
	var aors []overlay.AOR
	for i := range nodes {
		seed := sha256.Sum256(fmt.Appendf(nil, "calibration %d", i))
		key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
		if err != nil {
			return fail(err)
		}
		aor, err := auth.Document().ID.AOR(fmt.Sprintf("user%d", i))
		if err != nil {
			return fail(err)
		}
		node, err := overlay.NodeOfKey(key)
		if err != nil {
			return fail(err)
		}
		cred, err := auth.Issue(node, []overlay.AOR{aor}, nil, time.Hour, time.Now())
		if err != nil {
			return fail(err)
		}
		h, err := newHost(key)
		if err != nil {
			return fail(err)
		}
		conf := overlay.Config{Key: key, Document: auth.Document(), Credential: cred, Host: h}
		if i > 0 {
			if conf.Bootstrap, err = overlay.ParseBootstrap(peers[0].Addrs()); err != nil {
				return fail(err)
			}
		}
		p, err := overlay.Start(conf)
		if err != nil {
			h.Close()
			return fail(err)
		}
		peers, aors = append(peers, p), append(aors, aor)
		if err := p.WaitJoined(ctx); err != nil {
			return fail(err)
		}
	}
	// Until nobody asks anybody any more: the tables are as full as they get.
	requests := func() (n uint64) {
		for _, p := range peers {
			n += p.Status().Requests
		}
		return n
	}
	for last, same := uint64(0), 0; same < 3; {
		time.Sleep(150 * time.Millisecond)
		if now := requests(); now == last {
			same++
		} else {
			last, same = now, 0
		}
		if ctx.Err() != nil {
			return fail(ctx.Err())
		}
	}
	for _, p := range peers {
		c.routing += float64(p.Status().Routing) / nodes
	}
	before := requests()
	for i, p := range peers {
		if err := p.Registrations().Set(ctx, aors[i], []overlay.Device{{ID: "x"}}); err != nil {
			return fail(err)
		}
		st := p.Registrations().Status()[0]
		c.publish += float64(st.Asked+st.Wanted) / nodes
	}
	for i, a := range aors {
		for j := range lookups {
			p := peers[(i*7+j*11+3)%nodes]
			l := p.Lookup(ctx, a)
			for err = nil; err == nil; {
				_, err = l.Next(ctx)
			}
			st := l.Stats()
			if st.Copies == 0 {
				return fail(fmt.Errorf("%s was not found by node %d: %w", a, (i*7+j*11+3)%nodes, err))
			}
			c.hops += float64(st.Hops) / nodes / lookups
			c.lookup += float64(st.Asked) / nodes / lookups
		}
		nobody, err := auth.Document().ID.AOR(fmt.Sprintf("nobody%d", i))
		if err != nil {
			return fail(err)
		}
		l := peers[i].Lookup(ctx, nobody)
		l.Next(ctx)
		c.unknown += float64(l.Stats().Asked) / nodes
	}
	c.requests = float64(requests() - before)
	return c, nil
}

// TestCalibrate: the light host and libp2p's give the same picture. Both run the same nodes, keys and operations; the real
// ones over TCP on loopback, whose delays are short and uneven, and so are the light ones. The real ones run in real time and share the machine, so one repetition is granted.
func TestCalibrate(t *testing.T) {
	overlay.SilenceLibraries()
	if testing.Short() {
		t.Skip("40 real hosts")
	}
	var light calibration
	var lightErr error
	if err := network.RunVirtual(func() {
		n, err := network.New(network.Config{Seed: 1, Latency: network.HeavyTailed(1, 2*time.Millisecond), Jitter: 1, HandshakeTrips: 3})
		if err != nil {
			lightErr = err
			return
		}
		defer n.Close()
		light, lightErr = calibrate(func(key crypto.PrivKey) (host.Host, error) { return n.AddHost(key, network.NoNAT) })
	}); err != nil || lightErr != nil {
		t.Fatal(err, lightErr)
	}
	for try := range 2 {
		real, err := calibrate(func(key crypto.PrivKey) (host.Host, error) {
			return overlay.NewHost(overlay.HostConfig{Key: key, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
		})
		if err != nil {
			t.Fatal(err)
		}
		good := true
		for _, m := range []struct {
			name        string
			light, real float64
		}{
			{"hops of a lookup", light.hops, real.hops},
			{"nodes asked in a lookup", light.lookup, real.lookup},
			{"nodes asked and stored at by a publication", light.publish, real.publish},
			{"nodes asked for an unknown user", light.unknown, real.unknown},
			{"nodes in a routing table", light.routing, real.routing},
			{"requests in all", light.requests, real.requests},
		} {
			off := math.Abs(m.light-m.real) / m.real
			t.Logf("%s: light %.2f, real %.2f, %.1f %% off", m.name, m.light, m.real, 100*off)
			if off > 0.10 {
				good = false
				if try > 0 {
					t.Errorf("%s: light %.2f, real %.2f", m.name, m.light, m.real)
				}
			}
		}
		if good {
			return
		}
	}
}
