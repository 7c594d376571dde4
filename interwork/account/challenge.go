package account

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/authparam"
)

const (
	// maxChallenges bounds those that are looked at in one response; each has at most maxChallenge bytes.
	maxChallenges = 8
	maxChallenge  = 4096
)

// Errors about challenges.
var (
	errNoChallenge = errors.New("the challenge is none that can be answered (Digest with MD5 or SHA-256)")
	errRealm       = errors.New("the challenge is from another realm")
	errWeaker      = errors.New("the provider asked with SHA-256 before, and now with MD5 only")
)

// challenge is one WWW-Authenticate or Proxy-Authenticate value of the Digest scheme (RFC 7616 §3.3, RFC 8760).
type challenge struct {
	proxy  bool // Proxy-Authenticate
	realm  string
	nonce  string
	opaque string
	hasOpq bool
	alg    string // as sent, "" when absent
	sha256 bool
	sess   bool // MD5-sess or SHA-256-sess
	qop    bool // auth is offered; false: none is named, as before RFC 2617
	stale  bool
}

// readChallenges gives the challenges of a response that can be answered.
func readChallenges(res *sip.Response) []challenge {
	var out []challenge
	for _, header := range []string{"WWW-Authenticate", "Proxy-Authenticate"} {
		hs := res.GetHeaders(header)
		for _, h := range hs[:min(len(hs), maxChallenges)] {
			if c, err := readChallenge(h.Value()); err == nil {
				c.proxy = header == "Proxy-Authenticate"
				out = append(out, c)
			}
		}
	}
	return out
}

func readChallenge(s string) (c challenge, err error) {
	if len(s) > maxChallenge {
		return c, fmt.Errorf("a challenge of %d bytes, %d are allowed", len(s), maxChallenge)
	}
	scheme, rest, ok := strings.Cut(strings.TrimLeft(s, " \t"), " ")
	if !ok || !strings.EqualFold(scheme, "Digest") {
		return c, errNoChallenge
	}
	params, err := authparam.Parse(rest)
	if err != nil {
		return c, err
	}
	c.realm, c.nonce, c.alg = params["realm"], params["nonce"], params["algorithm"]
	c.opaque, c.hasOpq = params["opaque"], params["opaque"] != ""
	c.stale = strings.EqualFold(params["stale"], "true")
	if c.nonce == "" || len(c.realm) > maxText {
		return c, errNoChallenge
	}
	alg := strings.ToUpper(c.alg)
	alg, c.sess = strings.CutSuffix(alg, "-SESS")
	switch alg {
	case "", "MD5":
	case "SHA-256":
		c.sha256 = true
	default:
		return c, errNoChallenge
	}
	if qop, ok := params["qop"]; ok {
		for q := range strings.SplitSeq(qop, ",") {
			c.qop = c.qop || strings.EqualFold(strings.TrimSpace(q), "auth")
		}
		if !c.qop {
			return c, errNoChallenge // auth-int alone: nobody uses it in SIP (RFC 8760 §2.6)
		}
	}
	return c, nil
}

// identity is who answers challenges.
type identity struct {
	user, password string
	realms         []string // those that are answered; none: any
	onlySHA256     bool
	any            bool // realms may be anything: the first registration
}

// choose gives the challenges to answer, one for each realm and header: the first that is understood, as the provider's
// order is its preference (RFC 8760 §2.4), but SHA-256 before MD5.
func (id *identity) choose(cs []challenge) ([]challenge, error) {
	if len(cs) == 0 {
		return nil, errNoChallenge
	}
	var out []challenge
	var refused error
	for _, c := range cs {
		if !id.any && !slices.Contains(id.realms, c.realm) {
			refused = fmt.Errorf("%w, %q", errRealm, clip(c.realm))
			continue
		}
		i := slices.IndexFunc(out, func(o challenge) bool { return o.realm == c.realm && o.proxy == c.proxy })
		switch {
		case i < 0 && len(out) < maxRealms:
			out = append(out, c)
		case i >= 0 && c.sha256 && !out[i].sha256:
			out[i] = c
		}
	}
	if len(out) == 0 {
		return nil, refused
	}
	if id.onlySHA256 && slices.ContainsFunc(out, func(c challenge) bool { return !c.sha256 }) {
		return nil, errWeaker
	}
	return out, nil
}

// answer makes the header that answers a challenge for the count-th time (RFC 7616 §3.4).
func (id *identity) answer(c *challenge, method, uri string, count uint32) sip.Header {
	var b [16]byte
	rand.Read(b[:])
	value := id.respond(c, method, uri, count, hex.EncodeToString(b[:]))
	if c.proxy {
		return sip.NewHeader("Proxy-Authorization", value)
	}
	return sip.NewHeader("Authorization", value)
}

func (id *identity) respond(c *challenge, method, uri string, count uint32, cnonce string) string {
	hash := func(parts ...string) string {
		s := []byte(strings.Join(parts, ":"))
		if c.sha256 {
			sum := sha256.Sum256(s)
			return hex.EncodeToString(sum[:])
		}
		sum := md5.Sum(s)
		return hex.EncodeToString(sum[:])
	}
	ha1 := hash(id.user, c.realm, id.password)
	if c.sess {
		ha1 = hash(ha1, c.nonce, cnonce)
	}
	ha2 := hash(method, uri)
	nc := fmt.Sprintf("%08x", count)
	var b strings.Builder
	fmt.Fprintf(&b, "Digest username=%s, realm=%s, nonce=%s, uri=%s", authparam.Quote(id.user), authparam.Quote(c.realm), authparam.Quote(c.nonce), authparam.Quote(uri))
	if c.qop {
		fmt.Fprintf(&b, `, response="%s", qop=auth, nc=%s, cnonce="%s"`, hash(ha1, c.nonce, nc, cnonce, "auth", ha2), nc, cnonce)
	} else {
		fmt.Fprintf(&b, `, response="%s"`, hash(ha1, c.nonce, ha2))
		if c.sess {
			fmt.Fprintf(&b, `, cnonce="%s"`, cnonce)
		}
	}
	if c.alg != "" {
		fmt.Fprintf(&b, ", algorithm=%s", c.alg)
	}
	if c.hasOpq {
		fmt.Fprintf(&b, ", opaque=%s", authparam.Quote(c.opaque))
	}
	return b.String()
}
