package edge

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"p2psip/overlay"
)

const (
	// nonceAge is how long a nonce is good for. A phone uses one for all its requests meanwhile, so it bounds how long
	// the replay windows have to be kept; an aged one costs the phone one more round trip (stale=true, no password asked).
	nonceAge = 5 * time.Minute
	// maxReplay bounds the replay windows. Only a right answer makes one, so strangers cannot fill the table.
	maxReplay = 4096
	// replayWindow is how far nonce counts may arrive out of order: requests over UDP overtake one another.
	replayWindow = 64

	nonceBytes = 8 + 8 + 16 // time, random, MAC
)

// verdict is what came of checking credentials.
type verdict int

const (
	denied       verdict = iota // wrong password, no such user, not the user's algorithm: indistinguishable by design
	stale                       // the password is right, the nonce is not (any more)
	confirmed                   // the user is who the credentials say
	malformed                   // without qop, which was offered, or with userhash, which was not: 400
	misaddressed                // made for another Request-URI: 400
)

// digest makes challenges and checks answers for one realm (RFC 3261 §22, RFC 7616, RFC 8760). A nonce carries its own
// time and a MAC, so that challenging costs no memory. The MAC is over the source of the request too: over UDP, where a
// source is easily forged, a right answer proves that the challenge has arrived there, so that nobody with a password can
// have calls sent to a third party.
type digest struct {
	realm overlay.ID
	key   []byte // MAC key; new with every process, so that no nonce survives the replay windows
	now   func() time.Time

	mu      sync.Mutex // guards what follows
	windows map[string]*window
	floor   time.Time // nonces issued up to here are stale: their windows may have been dropped
}

// window remembers which nonce counts of one nonce were used: the highest, and a bit for each of the 64 up to it.
type window struct {
	issued time.Time
	top    uint32
	seen   uint64
}

func newDigest(realm overlay.ID, now func() time.Time) *digest {
	key := make([]byte, 32)
	rand.Read(key)
	return &digest{realm: realm, key: key, now: now, windows: make(map[string]*window)}
}

// challenge gives the values of the WWW-Authenticate or Proxy-Authenticate headers for a phone at an address, one for each
// algorithm in the order given: the preferred one comes first (RFC 8760 §2.4). They share a nonce.
func (d *digest) challenge(to netip.Prefix, algs []algorithm, isStale bool) []string {
	nonce := d.newNonce(to)
	values := make([]string, len(algs))
	for i, alg := range algs {
		values[i] = fmt.Sprintf(`Digest realm="%s", nonce="%s", algorithm=%s, qop="auth"`, d.realm, nonce, alg)
		if isStale {
			values[i] += ", stale=true"
		}
	}
	return values
}

func (d *digest) newNonce(to netip.Prefix) string {
	b := make([]byte, nonceBytes)
	binary.BigEndian.PutUint64(b, uint64(d.now().UnixMilli()))
	rand.Read(b[8:16])
	copy(b[16:], d.nonceMAC(b[:16], to))
	return base64.RawURLEncoding.EncodeToString(b)
}

func (d *digest) nonceMAC(b []byte, to netip.Prefix) []byte {
	return d.mac("nonce", string(b), to.String())
}

func (d *digest) mac(parts ...string) []byte {
	m := hmac.New(sha256.New, d.key)
	for _, p := range parts {
		fmt.Fprintf(m, "%d:%s,", len(p), p)
	}
	return m.Sum(nil)[:16]
}

// issued says when this process made the nonce for somebody at that address; ok is false when it did not.
func (d *digest) issued(nonce string, to netip.Prefix) (t time.Time, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != nonceBytes || !hmac.Equal(b[16:], d.nonceMAC(b[:16], to)) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b))), true
}

// check judges credentials of this realm for a request that came from an address. lookup finds the stored secrets of a
// canonical user part. The user returned is set only with confirmed.
func (d *digest) check(c credentials, from netip.Prefix, method, requestURI string, lookup func(string) (User, bool)) (overlay.AOR, verdict) {
	// A phone that was offered qop has to use it (RFC 7616 §3.4); without it there is no count to tell a replay by.
	if c.QOP != "auth" || c.UserHash {
		return overlay.AOR{}, malformed
	}
	if !sameURI(c.URI, requestURI) {
		return overlay.AOR{}, misaddressed
	}
	aor, ha1 := d.secret(c, lookup)
	want := c.expected(ha1, method)
	if subtle.ConstantTimeCompare([]byte(want), []byte(c.Response)) != 1 || aor.IsZero() {
		return overlay.AOR{}, denied
	}
	issued, ok := d.issued(c.Nonce, from)
	if !ok || !d.use(c.Nonce, issued, c.NC) {
		return overlay.AOR{}, stale
	}
	return aor, confirmed
}

// expected is the response that the holder of ha1 gives (RFC 7616 §3.4.1, with qop).
func (c credentials) expected(ha1, method string) string {
	ha2 := c.Algorithm.hash(method + ":" + c.URI)
	return c.Algorithm.hash(strings.Join([]string{ha1, c.Nonce, c.nc, c.CNonce, c.QOP, ha2}, ":"))
}

// secret finds the user and HA1 for the username as the phone wrote it. For somebody unknown it gives the zero AOR and a
// value that no password leads to, found with the same work.
func (d *digest) secret(c credentials, lookup func(string) (User, bool)) (overlay.AOR, string) {
	decoy := c.Algorithm.hash(string(d.mac("decoy", c.Username)))
	name := c.Username
	if user, host, ok := strings.Cut(name, "@"); ok && strings.EqualFold(host, d.realm.String()) {
		name = user
	}
	aor, err := d.realm.AOR(name)
	if err != nil {
		return overlay.AOR{}, decoy
	}
	user, ok := lookup(aor.User())
	if !ok || !slices.Contains(user.offers(), c.Algorithm) {
		return overlay.AOR{}, decoy
	}
	ha1, ok := user.secret(c.Algorithm, c.Username)
	if !ok {
		return overlay.AOR{}, decoy
	}
	return aor, ha1
}

// use spends one nonce count. It is false when the nonce is too old, or the count was used before.
func (d *digest) use(nonce string, issued time.Time, nc uint32) bool {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if age := now.Sub(issued); age > nonceAge || age < -time.Second || !issued.After(d.floor) {
		return false
	}
	w := d.windows[nonce]
	if w == nil {
		if len(d.windows) >= maxReplay {
			d.sweep(now)
		}
		w = &window{issued: issued}
		d.windows[nonce] = w
	}
	switch {
	case nc > w.top:
		if shift := nc - w.top; shift < replayWindow {
			w.seen = w.seen<<shift | 1
		} else {
			w.seen = 1
		}
		w.top = nc
		return true
	case w.top-nc >= replayWindow:
		return false
	}
	bit := uint64(1) << (w.top - nc)
	fresh := w.seen&bit == 0
	w.seen |= bit
	return fresh
}

// sweep makes room: windows of aged nonces go, and if that is not enough the older half, whose nonces are stale from now
// on.
func (d *digest) sweep(now time.Time) {
	var total time.Duration
	for k, w := range d.windows {
		if now.Sub(w.issued) > nonceAge {
			delete(d.windows, k)
			continue
		}
		total += now.Sub(w.issued)
	}
	if len(d.windows) < maxReplay {
		return
	}
	cut := now.Add(-total / time.Duration(len(d.windows)))
	for k, w := range d.windows {
		if !w.issued.After(cut) {
			delete(d.windows, k)
		}
	}
	d.floor = cut
}
