package account

import (
	"errors"
	"slices"

	"github.com/emiago/sipgo/sip"
)

// errWrong says that a provider refuses the password.
var errWrong = errors.New("the provider refuses the user name or the password")

// maxNonceUses is when a nonce is given up that a provider never lets go stale, so that the count cannot overflow.
const maxNonceUses = 1 << 20

// login is the state of authentication with one provider: the challenges in force and how often each was answered. It is
// used by one goroutine, or under a lock.
type login struct {
	id      identity
	current []inForce
}

type inForce struct {
	challenge
	uses uint32
	now  bool // it came in the exchange under way
}

// begin begins an exchange: a request and what it takes to have it accepted. Challenges of earlier ones are answered again,
// with a higher count, which saves a round trip.
func (l *login) begin() {
	for i := range l.current {
		l.current[i].now = false
	}
	l.current = slices.DeleteFunc(l.current, func(c inForce) bool { return c.uses >= maxNonceUses })
}

// headers answers the challenges in force for one request.
func (l *login) headers(method sip.RequestMethod, uri string) []sip.Header {
	var out []sip.Header
	for i := range l.current {
		c := &l.current[i]
		c.uses++
		out = append(out, l.id.answer(&c.challenge, string(method), uri, c.uses))
	}
	return out
}

// take takes the challenges of a 401 or 407. errWrong says that it came although its realm was answered in this exchange.
func (l *login) take(res *sip.Response) error {
	chosen, err := l.id.choose(readChallenges(res))
	if err != nil {
		return err
	}
	for _, c := range chosen {
		i := slices.IndexFunc(l.current, func(o inForce) bool { return o.realm == c.realm && o.proxy == c.proxy })
		if i < 0 {
			l.current = append(l.current, inForce{challenge: c, now: true})
			continue
		}
		old := &l.current[i]
		if old.now && old.uses > 0 && (!c.stale || c.nonce == old.nonce) {
			l.current = slices.Delete(l.current, i, i+1)
			return errWrong
		}
		*old = inForce{challenge: c, now: true}
	}
	if len(l.current) > maxRealms {
		l.current = slices.Delete(l.current, 0, len(l.current)-maxRealms)
	}
	return nil
}

// forget drops the challenges in force.
func (l *login) forget() { l.current = nil }

// realms gives those in force, and whether all of them use SHA-256.
func (l *login) realms() (realms []string, sha256 bool) {
	sha256 = len(l.current) > 0
	for _, c := range l.current {
		sha256 = sha256 && c.sha256
		if !slices.Contains(realms, c.realm) {
			realms = append(realms, c.realm)
		}
	}
	return realms, sha256
}
