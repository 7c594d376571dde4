package media

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v2/packetio"

	"p2psip/interwork/media/sdp"
)

// errFingerprint: the certificate is not the one that was announced. Somebody is in between, or the answer came from
// somebody else.
var errFingerprint = errors.New("the far side's certificate does not have the fingerprint that its description gave")

// certificate is what a session authenticates its DTLS associations with (RFC 5763 §5). Each session has its own, so that two calls
// cannot be told to be one node's, and a key that leaks opens one call; making one takes less than a tenth of a
// millisecond.
type certificate struct {
	tls         tls.Certificate
	fingerprint sdp.Fingerprint
}

func newCertificate() (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("media: a key for DTLS: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("media: a certificate for DTLS: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "media"},
		NotBefore:    now.Add(-24 * time.Hour), // clocks differ
		NotAfter:     now.Add(30 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("media: a certificate for DTLS: %w", err)
	}
	sum := sha256.Sum256(der)
	return &certificate{
		tls:         tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		fingerprint: sdp.Fingerprint{Hash: "sha-256", Sum: string(sum[:])},
	}, nil
}

// dtlsParams is what an association is made with.
type dtlsParams struct {
	cert   *certificate
	client bool
	peer   []sdp.Fingerprint
	tlsID  string // of the far side
	weak   bool   // SHA-1 fingerprints count too, for old phones
}

// same says that no new association is needed (RFC 8842 §4: another fingerprint or tls-id begins one).
func (p dtlsParams) same(q dtlsParams) bool {
	return p.cert == q.cert && p.client == q.client && p.tlsID == q.tlsID && slices.Equal(p.peer, q.peer)
}

// check says whether a certificate is the announced one: one of the fingerprints is its own (RFC 8122 §5).
func (p dtlsParams) check(der []byte) error {
	for _, f := range p.peer {
		var sum []byte
		switch f.Hash {
		case "sha-256":
			h := sha256.Sum256(der)
			sum = h[:]
		case "sha-384":
			h := sha512.Sum384(der)
			sum = h[:]
		case "sha-512":
			h := sha512.Sum512(der)
			sum = h[:]
		case "sha-1":
			if !p.weak {
				continue
			}
			h := sha1.Sum(der)
			sum = h[:]
		default:
			continue
		}
		if string(sum) == f.Sum {
			return nil
		}
	}
	return errFingerprint
}

// association is a DTLS association that gives the keys of one stream. It knows nothing of addresses: records come in by
// take and leave by send, whatever path is in use at the moment, so it outlives restarts of ICE.
type association struct {
	params dtlsParams
	in     *packetio.Buffer
	send   func([]byte)
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newAssociation(p dtlsParams, send func([]byte)) *association {
	a := &association{params: p, in: packetio.NewBuffer(), send: send}
	a.in.SetLimitCount(maxRecords)
	a.in.SetLimitSize(maxRecords * maxPacket)
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// take hands in a record. What does not fit is dropped: DTLS sends again.
func (a *association) take(b []byte) { _, _ = a.in.Write(b) }

// run does the handshake and then calls done once, unless the association is closed before.
func (a *association) run(done func(in *opener, out *sealer, name string, err error)) {
	a.wg.Go(func() {
		conn, err := a.handshake()
		if err == nil {
			var in *opener
			var out *sealer
			var name string
			if in, out, name, err = exportKeys(conn, a.params.client); err == nil {
				done(in, out, name, nil)
			}
		}
		if err != nil {
			if conn != nil {
				conn.Close()
			}
			if a.ctx.Err() == nil {
				done(nil, nil, "", err)
			}
			return
		}
		// The association stays, to send its last flight again if that was lost. Data over it is none of ours.
		a.drain(conn)
	})
}

func (a *association) handshake() (*dtls.Conn, error) {
	secret := dtls.RequireExtendedMasterSecret
	if a.params.weak {
		secret = dtls.RequestExtendedMasterSecret // old phones
	}
	both := []dtls.Option{
		dtls.WithCertificates(a.params.cert.tls),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80),
		dtls.WithExtendedMasterSecret(secret),
		dtls.WithInsecureSkipVerify(true), // certificates are self-signed; the fingerprint is what counts
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 {
				return errFingerprint
			}
			return a.params.check(raw[0])
		}),
		dtls.WithFlightInterval(flightInterval),
		dtls.WithMTU(1200),
		dtls.WithLoggerFactory(silent()),
	}
	var conn *dtls.Conn
	var err error
	pc := &recordConn{a: a}
	if a.params.client {
		var opts []dtls.ClientOption
		for _, o := range both {
			opts = append(opts, o)
		}
		conn, err = dtls.ClientWithOptions(pc, recordAddr{}, opts...)
	} else {
		opts := []dtls.ServerOption{
			dtls.WithClientAuth(dtls.RequireAnyClientCert),
			dtls.WithInsecureSkipVerifyHello(true), // ICE has shown that the far side is where it says
		}
		for _, o := range both {
			opts = append(opts, o)
		}
		conn, err = dtls.ServerWithOptions(pc, recordAddr{}, opts...)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(a.ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("no handshake within " + handshakeTimeout.String())
		}
		return conn, err
	}
	return conn, nil
}

// drain reads and forgets until the association is closed.
func (a *association) drain(conn *dtls.Conn) {
	stop := context.AfterFunc(a.ctx, func() { conn.Close() })
	defer stop()
	buf := make([]byte, maxPacket)
	for {
		if _, err := conn.Read(buf); err != nil {
			conn.Close()
			return
		}
	}
}

// exportKeys takes the keys of both directions out of a handshake (RFC 5764 §4.2).
func exportKeys(conn *dtls.Conn, client bool) (*opener, *sealer, string, error) {
	chosen, ok := conn.SelectedSRTPProtectionProfile()
	if !ok {
		return nil, nil, "", errors.New("no protection profile in common")
	}
	var c srtp.Config
	name := ""
	switch chosen {
	case dtls.SRTP_AEAD_AES_128_GCM:
		c.Profile, name = srtp.ProtectionProfileAeadAes128Gcm, "AEAD_AES_128_GCM"
	case dtls.SRTP_AEAD_AES_256_GCM:
		c.Profile, name = srtp.ProtectionProfileAeadAes256Gcm, "AEAD_AES_256_GCM"
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
		c.Profile, name = srtp.ProtectionProfileAes128CmHmacSha1_80, "AES_CM_128_HMAC_SHA1_80"
	default:
		return nil, nil, "", fmt.Errorf("protection profile %d was not offered", chosen)
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, nil, "", errors.New("no state after the handshake")
	}
	if err := c.ExtractSessionKeysFromDTLS(&state, client); err != nil {
		return nil, nil, "", err
	}
	in, err := newOpener(secret{profile: c.Profile, key: c.Keys.RemoteMasterKey, salt: c.Keys.RemoteMasterSalt})
	if err != nil {
		return nil, nil, "", err
	}
	out, err := newSealer(secret{profile: c.Profile, key: c.Keys.LocalMasterKey, salt: c.Keys.LocalMasterSalt})
	if err != nil {
		return nil, nil, "", err
	}
	return in, out, "DTLS-SRTP " + name, nil
}

// close ends the association and waits for its goroutines.
func (a *association) close() {
	a.cancel()
	a.in.Close()
	a.wg.Wait()
}

// recordConn is the net.PacketConn under a DTLS connection.
type recordConn struct{ a *association }

type recordAddr struct{}

func (recordAddr) Network() string { return "media" }
func (recordAddr) String() string  { return "far side" }

func (c *recordConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.a.in.Read(b)
	return n, recordAddr{}, err
}

func (c *recordConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	c.a.send(b)
	return len(b), nil
}

func (c *recordConn) Close() error                      { return nil }
func (c *recordConn) LocalAddr() net.Addr               { return recordAddr{} }
func (c *recordConn) SetDeadline(t time.Time) error     { return c.a.in.SetReadDeadline(t) }
func (c *recordConn) SetReadDeadline(t time.Time) error { return c.a.in.SetReadDeadline(t) }
func (c *recordConn) SetWriteDeadline(time.Time) error  { return nil }
