package phone

import (
	"errors"
	"fmt"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// errNoAnswer says that a challenge cannot be answered.
var errNoAnswer = errors.New("no challenge that this phone has an answer to")

func challenged(res *sip.Response) bool { return res.StatusCode == 401 || res.StatusCode == 407 }

// authorize answers the challenges of res to req: one header for each realm, made for the topmost challenge of it whose
// algorithm is known (RFC 8760 §2.4).
func (p *Phone) authorize(req *sip.Request, res *sip.Response) ([]string, error) {
	if p.cfg.Password == "" {
		return nil, errNoAnswer
	}
	var headers []string
	done := map[string]bool{}
	for _, kind := range []struct{ ask, answer string }{
		{"WWW-Authenticate", "Authorization"},
		{"Proxy-Authenticate", "Proxy-Authorization"},
	} {
		for _, h := range res.GetHeaders(kind.ask) {
			c, err := digest.ParseChallenge(h.Value())
			if err != nil || !digest.CanDigest(c) || done[kind.ask+c.Realm] {
				continue
			}
			cred, err := digest.Digest(c, digest.Options{
				Method: string(req.Method), URI: req.Recipient.String(), Count: 1,
				Username: p.cfg.AuthUser, Password: p.cfg.Password,
			})
			if err != nil {
				continue
			}
			done[kind.ask+c.Realm] = true
			headers = append(headers, fmt.Sprintf("%s: %s", kind.answer, cred))
		}
	}
	if len(headers) == 0 {
		return nil, errNoAnswer
	}
	return headers, nil
}
