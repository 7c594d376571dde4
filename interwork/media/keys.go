package media

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"p2psip/interwork/media/sdp"
)

var (
	errTooManySources = errors.New("media: too many synchronization sources")
	errReplayed       = errors.New("media: a packet number was used before")
	errShort          = errors.New("media: too short for RTP")
)

// secret is a master key and salt for one direction (RFC 3711 §8.2), with what packets are protected by.
type secret struct {
	profile   srtp.ProtectionProfile
	key, salt []byte
	mki       []byte
}

func (s secret) context() (*srtp.Context, error) {
	opts := []srtp.ContextOption{srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow)}
	if len(s.mki) > 0 {
		opts = append(opts, srtp.MasterKeyIndicator(s.mki))
	}
	return srtp.CreateContext(s.key, s.salt, s.profile, opts...)
}

// sealer encrypts what leaves by one leg. It is one goroutine's at a time.
type sealer struct {
	ctx    *srtp.Context
	header rtp.Header
	sent   map[uint32]*window
}

func newSealer(s secret) (*sealer, error) {
	ctx, err := s.context()
	if err != nil {
		return nil, fmt.Errorf("media: keys for sending: %w", err)
	}
	return &sealer{ctx: ctx, sent: make(map[uint32]*window)}, nil
}

// seal writes the packet encrypted into dst. A packet number is never used twice with the same key: a source that comes back
// with one, or is forged, would lay open what both packets carry and, with AES-GCM, the key of authentication (RFC 7714
// §8.1). A phone that begins to count anew and stays with it gets another SSRC, so that it is heard; b is changed then.
func (s *sealer) seal(dst, b []byte, rtcp bool) ([]byte, error) {
	ssrc, ok := ssrcOf(b, rtcp)
	if !ok {
		return nil, errShort
	}
	w := s.sent[ssrc]
	if w == nil {
		if len(s.sent) >= maxSources {
			return nil, errTooManySources
		}
		w = &window{}
		s.sent[ssrc] = w
	}
	if rtcp {
		return s.ctx.EncryptRTCP(dst, b, nil)
	}
	seq := binary.BigEndian.Uint16(b[2:])
	if w.take(seq) {
		w.refused = 0
	} else if w.refused++; w.refused < beginsAnew || w.aliases >= maxSources {
		return nil, errReplayed
	} else {
		var r [4]byte
		rand.Read(r[:])
		*w = window{alias: binary.BigEndian.Uint32(r[:]) | 1, aliases: w.aliases + 1}
		w.take(seq)
	}
	if w.alias != 0 {
		binary.BigEndian.PutUint32(b[8:], w.alias)
	}
	return s.ctx.EncryptRTP(dst, b, &s.header)
}

// opener decrypts what comes in by one leg. It is one goroutine's at a time.
//
// Package srtp remembers every source that it was ever shown, also those that were forged. So a source is tried with a
// context that is thrown away now and then, and gets into the one that stays when a packet of it has authenticated.
type opener struct {
	secret secret
	header rtp.Header
	ctx    *srtp.Context
	known  map[uint32]struct{}
	trial  *srtp.Context
	tried  int
}

func newOpener(s secret) (*opener, error) {
	ctx, err := s.context()
	if err != nil {
		return nil, fmt.Errorf("media: keys for receiving: %w", err)
	}
	return &opener{secret: s, ctx: ctx, known: make(map[uint32]struct{})}, nil
}

// open decrypts in place.
func (o *opener) open(b []byte, rtcp bool) ([]byte, error) {
	ssrc, ok := ssrcOf(b, rtcp)
	if !ok {
		return nil, errShort
	}
	if _, known := o.known[ssrc]; known {
		return o.decrypt(o.ctx, b, rtcp)
	}
	if len(o.known) >= maxSources {
		return nil, errTooManySources
	}
	if o.trial == nil || o.tried >= maxSources {
		ctx, err := o.secret.context()
		if err != nil {
			return nil, err
		}
		o.trial, o.tried = ctx, 0
	}
	o.tried++
	if _, err := o.decrypt(o.trial, slices.Clone(b), rtcp); err != nil {
		// Sources begin to count at random (RFC 3550 §5.1). If what came before the first roll-over was lost, or was sent before
		// there were keys here, this one is after it.
		if rtcp || binary.BigEndian.Uint16(b[2:]) >= 1<<15 {
			return nil, err
		}
		o.trial.SetROC(ssrc, 1)
		if _, err := o.decrypt(o.trial, slices.Clone(b), rtcp); err != nil {
			return nil, err
		}
		o.ctx.SetROC(ssrc, 1)
	}
	o.known[ssrc] = struct{}{}
	return o.decrypt(o.ctx, b, rtcp) // the one that stays counts from the first packet on
}

func (o *opener) decrypt(ctx *srtp.Context, b []byte, rtcp bool) ([]byte, error) {
	if rtcp {
		return ctx.DecryptRTCP(b, b, nil)
	}
	return ctx.DecryptRTP(b, b, &o.header)
}

// window remembers which packets of a source were sent, by their extended sequence numbers (RFC 3711 §3.3.1, §3.3.2).
type window struct {
	top  uint64 // highest index taken, plus 1; 0: none
	seen uint64 // bit i: top-1-i was taken

	refused int    // in a row
	alias   uint32 // what the source is called now, 0: as it calls itself
	aliases int
}

// take takes a sequence number; false when it was taken before, or is too old to tell.
func (w *window) take(seq uint16) bool {
	if w.top == 0 {
		w.top, w.seen = uint64(seq)+1, 1
		return true
	}
	last := w.top - 1
	d := int64(int16(seq - uint16(last)))
	if d > 0 {
		if d >= 64 {
			w.seen = 0
		} else {
			w.seen <<= uint(d)
		}
		w.seen |= 1
		w.top += uint64(d)
		return true
	}
	if d <= -64 || -d > int64(last) || w.seen&(1<<uint(-d)) != 0 {
		return false
	}
	w.seen |= 1 << uint(-d)
	return true
}

// ssrcOf reads the synchronization source that sends.
func ssrcOf(b []byte, rtcp bool) (uint32, bool) {
	if rtcp {
		if len(b) < 8 {
			return 0, false
		}
		return binary.BigEndian.Uint32(b[4:]), true
	}
	if len(b) < 12 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[8:]), true
}

// suites are the crypto suites of SDES (RFC 4568 §6.2, RFC 6188, RFC 7714) that are spoken, best first, with the length of
// their keys.
var suites = []struct {
	name    string
	profile srtp.ProtectionProfile
	key     int
}{
	{"AEAD_AES_128_GCM", srtp.ProtectionProfileAeadAes128Gcm, 16},
	{"AEAD_AES_256_GCM", srtp.ProtectionProfileAeadAes256Gcm, 32},
	{"AES_CM_128_HMAC_SHA1_80", srtp.ProtectionProfileAes128CmHmacSha1_80, 16},
	{"AES_256_CM_HMAC_SHA1_80", srtp.ProtectionProfileAes256CmHmacSha1_80, 32},
	{"AES_CM_128_HMAC_SHA1_32", srtp.ProtectionProfileAes128CmHmacSha1_32, 16},
	{"AES_256_CM_HMAC_SHA1_32", srtp.ProtectionProfileAes256CmHmacSha1_32, 32},
}

// secretOf turns a crypto attribute into keys; false for a suite that is not spoken.
func secretOf(c sdp.Crypto) (secret, bool) {
	for _, s := range suites {
		if s.name == c.Suite && len(c.KeySalt) == sdp.SuiteSize(c.Suite) {
			return secret{profile: s.profile, key: []byte(c.KeySalt[:s.key]), salt: []byte(c.KeySalt[s.key:]), mki: []byte(c.MKI)}, true
		}
	}
	return secret{}, false
}

// newCrypto makes a crypto attribute with a key of ours.
func newCrypto(tag int, suite string) sdp.Crypto {
	k := make([]byte, sdp.SuiteSize(suite))
	rand.Read(k)
	return sdp.Crypto{Tag: tag, Suite: suite, KeySalt: string(k)}
}

// newKeys makes a crypto attribute for each suite that is offered and answered, the one that every phone knows first.
func newKeys() (out []sdp.Crypto) {
	for i, suite := range []string{"AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"} {
		out = append(out, newCrypto(i+1, suite))
	}
	return out
}
