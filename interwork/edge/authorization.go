package edge

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"p2psip/interwork/authparam"
)

// maxAuthorization bounds one Authorization value; a digest one has about 400 bytes.
const maxAuthorization = 4096

// errNotDigest says that the credentials are of another scheme: to this node they are no credentials at all.
var errNotDigest = errors.New("not digest credentials")

// credentials are the contents of one Authorization or Proxy-Authorization value of the Digest scheme
// (RFC 7616 §3.4, RFC 3261 §25.1 "digest-response").
type credentials struct {
	Username  string // as sent, without the quoting
	Realm     string
	Nonce     string
	URI       string
	Response  string // lower-case hex
	Algorithm algorithm
	CNonce    string
	NC        uint32
	nc        string // as sent: it is hashed so
	QOP       string // "" when absent
	UserHash  bool
}

// parseAuthorization reads credentials strictly: every parameter at most once, those that need quotes quoted or not as
// RFC 7616 §3.4 says (common phones that quote algorithm, qop or nc are understood), nothing after the last one. It
// returns errNotDigest for another scheme.
func parseAuthorization(s string) (credentials, error) {
	var c credentials
	if len(s) > maxAuthorization {
		return c, fmt.Errorf("credentials of %d bytes, %d are allowed", len(s), maxAuthorization)
	}
	scheme, rest, ok := strings.Cut(strings.TrimLeft(s, " \t"), " ")
	if !strings.EqualFold(scheme, "Digest") {
		return c, errNotDigest
	}
	if !ok {
		return c, errors.New("digest credentials without parameters")
	}
	params, err := authparam.Parse(rest)
	if err != nil {
		return c, err
	}
	for _, need := range []string{"username", "realm", "nonce", "uri", "response"} {
		if _, ok := params[need]; !ok {
			return c, fmt.Errorf("digest credentials without %s", need)
		}
	}
	c.Username, c.Realm, c.Nonce, c.URI = params["username"], params["realm"], params["nonce"], params["uri"]
	c.CNonce, c.QOP, c.nc = params["cnonce"], strings.ToLower(params["qop"]), params["nc"]
	switch a, ok := params["algorithm"]; {
	case !ok || strings.EqualFold(a, string(algMD5)): // RFC 7616 §3.4: MD5 when absent
		c.Algorithm = algMD5
	case strings.EqualFold(a, string(algSHA256)):
		c.Algorithm = algSHA256
	default:
		return c, fmt.Errorf("the digest algorithm %q was not offered", clip(a))
	}
	c.Response = params["response"]
	if len(c.Response) != 2*c.Algorithm.size() || strings.Trim(c.Response, "0123456789abcdefABCDEF") != "" {
		return c, fmt.Errorf("the digest response is not %d hex digits", 2*c.Algorithm.size())
	}
	c.Response = strings.ToLower(c.Response)
	c.UserHash = strings.EqualFold(params["userhash"], "true")
	if c.QOP != "" {
		if c.CNonce == "" {
			return c, errors.New("digest credentials with qop but without cnonce")
		}
		n, err := strconv.ParseUint(c.nc, 16, 32)
		if err != nil || len(c.nc) != 8 || n == 0 {
			return c, errors.New("the nonce count is not eight hex digits above zero")
		}
		c.NC = uint32(n)
	}
	return c, nil
}

// clip keeps hostile text out of log lines and reason phrases.
func clip(s string) string {
	if len(s) > 60 {
		s = s[:60] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
