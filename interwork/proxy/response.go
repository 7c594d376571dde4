package proxy

import (
	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

// offer considers an answer for forwarding upstream (§16.7 step 6). Called under x.mu.
func (x *responseContext) offer(r result) {
	r.rank = rank(r.status, r.res == nil)
	if x.best.status == 0 || r.rank < x.best.rank {
		x.best = r
	}
}

// rank orders final responses, the best first: a 6xx, then the lowest class. Within 4xx come first those that let the
// caller do something about it, as §16.7 step 6 lists them; then what a phone said; then answers that only say that one
// of the places did not have the phone, such as a node with an old record behind it; last what was made up here.
func rank(status int, local bool) int {
	if status >= 600 {
		return 0
	}
	r := status / 100 * 10
	if local {
		return r + 5
	}
	switch status {
	case 401, 407, 415, 420, 484:
		return r
	case 408, 430, 480, 481:
		return r + 2
	case 404, 410: // of two places, one knows more
		return r + 3
	case 487:
		return r + 4
	}
	return r + 1
}

// final prepares the chosen response: a 401 or 407 carries the challenges of all branches (step 7), and a 503 becomes a
// 500, because it speaks of another server than the one the caller talks to (step 6).
func (x *responseContext) final(res *sip.Response) *sip.Response {
	switch res.StatusCode {
	case 401, 407:
		have := append(res.GetHeaders("WWW-Authenticate"), res.GetHeaders("Proxy-Authenticate")...)
		for _, h := range x.auth {
			if !containsHeader(have, h) {
				res.AppendHeader(h)
			}
		}
	case 503:
		res = message.NewResponse(x.r.req, 500, "Server Internal Error")
		res.AppendHeader(x.c.warning("the next server is unavailable"))
	}
	return res
}

func containsHeader(hs []sip.Header, h sip.Header) bool {
	for _, o := range hs {
		if o == h {
			return true
		}
	}
	return false
}
