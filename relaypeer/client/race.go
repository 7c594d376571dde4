package client

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

// attemptTime bounds one attempt at a relay peer, over all its transports.
const attemptTime = 6 * time.Second

// race asks one relay peer for an allocation over all its transports, each a head start after the one before, or at once
// when those before it have failed. The first that succeeds wins; the others are given back.
func (p *Pool) race(ctx context.Context, node overlay.NodeID, heats []heat, g credential.Grant, hint challenge) (*Allocation, error) {
	if len(heats) == 0 {
		return nil, fmt.Errorf("%w: it offers no address and transport that can be used from here", errUseless)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		a   *Allocation
		at  endpoint
		err error
	}
	results := make(chan result, len(heats))
	begun := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var errs []error
	next, running := 0, 0
	for {
		if next < len(heats) && (running == 0 || time.Since(begun) >= heats[next].after) {
			h := heats[next]
			next++
			running++
			go func() { // ends with ctx; the loops below wait for it
				a, err := p.ask(ctx, node, h.endpoint, g, hint)
				results <- result{a, h.endpoint, err}
			}()
			continue
		}
		if next < len(heats) {
			timer.Reset(max(0, heats[next].after-time.Since(begun)))
		}
		select {
		case <-timer.C:
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				for range running {
					if late := <-results; late.a != nil {
						_ = late.a.Close()
					}
				}
				return r.a, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", r.at, r.err))
			// What a relay peer says over one transport, it would say over the others: only silence is a reason to go on.
			if declined := errors.Is(r.err, ErrRefused) || codeOf(r.err) == codeUnauthorized; running == 0 && (next == len(heats) || declined) {
				return nil, errors.Join(errs...)
			}
		}
	}
}

// errUseless: nothing can be asked of a relay peer.
var errUseless = errors.New("the relay peer cannot be used")

// ask asks for an allocation at one address over one transport. An allocation that the relay peer still holds for this
// machine's port (437) is a matter of the port: another one is tried once.
func (p *Pool) ask(ctx context.Context, node overlay.NodeID, at endpoint, g credential.Grant, hint challenge) (*Allocation, error) {
	for again := false; ; again = true {
		conn, err := p.connect(ctx, node, at, g.Keys)
		if err != nil {
			return nil, err
		}
		a, err := newAllocation(ctx, conn, node, at, g, hint, p)
		if codeOf(err) != codeMismatch || again {
			return a, err
		}
	}
}

// connect opens a socket to a relay peer, with TLS where the endpoint says so.
func (p *Pool) connect(ctx context.Context, node overlay.NodeID, at endpoint, keys [][]byte) (net.Conn, error) {
	network := "tcp"
	if at.transport == UDP {
		network = "udp"
	}
	conn, err := p.cfg.Dial(ctx, network, at.addr.String())
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	if at.transport != TLS {
		return conn, nil
	}
	t := tls.Client(conn, tlsConfig(node, keys))
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return t, nil
}

// errOtherKey: whoever answers is not the relay peer.
var errOtherKey = errors.New("the certificate is not the relay peer's")

// tlsConfig has the far side prove that it is the relay peer: by one of the keys that its credential answer named over an
// authenticated stream, or by the node's own key. Names, authorities and dates of the certificate say nothing more.
func tlsConfig(node overlay.NodeID, keys [][]byte) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true,                  // VerifyConnection judges
		NextProtos:         []string{"stun.turn"}, // RFC 7443
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errOtherKey
			}
			return checkKey(s.PeerCertificates[0], node, keys)
		},
	}
}

func checkKey(c *x509.Certificate, node overlay.NodeID, keys [][]byte) error {
	h := hashOfKey(c)
	if slices.ContainsFunc(keys, func(k []byte) bool { return slices.Equal(k, h) }) {
		return nil
	}
	if raw, ok := c.PublicKey.(ed25519.PublicKey); ok {
		own, err := crypto.UnmarshalEd25519PublicKey(raw)
		if err != nil {
			return fmt.Errorf("%w: %w", errOtherKey, err)
		}
		if id, err := peer.IDFromPublicKey(own); err == nil && id == node {
			return nil
		}
	}
	return errOtherKey
}

// hashOfKey is the hash of a certificate's public key, as in credential.Grant.
func hashOfKey(c *x509.Certificate) []byte {
	h := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return h[:]
}
