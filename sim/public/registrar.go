package public

import (
	"fmt"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"

	"p2psip/interwork/message"
)

// granted is the longest registration.
const granted = time.Hour

// nonce is the only one there is: nobody here is to be kept from replaying.
const nonce = "e5b4c9f1a0d2"

// register answers a REGISTER.
func (p *Provider) register(req *sip.Request) *sip.Response {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.users[req.To().Address.User]
	if u == nil {
		return message.NewResponse(req, 404, "")
	}
	if !p.authentic(req, u) {
		res := message.NewResponse(req, 401, "")
		res.AppendHeader(sip.NewHeader("WWW-Authenticate",
			fmt.Sprintf("Digest realm=%q, nonce=%q, algorithm=SHA-256, qop=\"auth\"", p.c.Domain, nonce)))
		return res
	}
	res := message.NewResponse(req, 200, "")
	for _, c := range message.Contacts(req) {
		expires := granted
		if h := req.GetHeader("Expires"); h != nil {
			expires = seconds(h.Value(), expires)
		}
		if v, ok := c.Params.Get("expires"); ok {
			expires = seconds(v, expires)
		}
		if c.Address.Wildcard || expires == 0 {
			u.until = time.Time{}
			continue
		}
		u.contact, u.until = c.Address, time.Now().Add(expires)
		answer := &sip.ContactHeader{Address: c.Address, Params: sip.HeaderParams{{K: "expires", V: strconv.Itoa(int(expires / time.Second))}}}
		res.AppendHeader(answer)
	}
	return res
}

func seconds(s string, most time.Duration) time.Duration {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return most
	}
	return min(time.Duration(n)*time.Second, most)
}

// authentic checks the answer to the challenge.
func (p *Provider) authentic(req *sip.Request, u *subscriber) bool {
	h := req.GetHeader("Authorization")
	if h == nil {
		return false
	}
	got, err := digest.ParseCredentials(h.Value())
	if err != nil || got.Nonce != nonce || got.Realm != p.c.Domain {
		return false
	}
	want, err := digest.Digest(&digest.Challenge{Realm: p.c.Domain, Nonce: nonce, Algorithm: "SHA-256", QOP: []string{"auth"}}, digest.Options{
		Method: string(req.Method), URI: got.URI, Count: got.Nc, Cnonce: got.Cnonce, Username: got.Username, Password: u.password,
	})
	return err == nil && want.Response == got.Response
}
