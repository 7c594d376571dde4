package proxy

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// A user of the overlay may call another one by a public number. The call leaves through one proxy peer, a provider outside
// finds that the number is registered with an address of the overlay, and it comes in again, perhaps through another proxy
// peer, with a From of the overlay: a spiral. Outside nobody can prove such a From. So the proxy peer that lets a request
// out gives its word that it has judged the From, in a parameter of its Via, where only what sends responses looks, and the
// one that lets it in again believes the word of any proxy peer.
//
// A word is good for one request: From and its tag, Call-ID, CSeq and Contact are what was signed, and for wordAge. What
// everybody on the way, the callee included, could do with it is send that very request to another user of the overlay within
// that time; answers and later requests still go to the caller.

// Words are signatures of proxy peers.
type Words interface {
	// Give gives this node's word for a text.
	Give(text []byte) ([]byte, error)
	// Believe says that a word for a text is that of a proxy peer. It may block until ctx ends.
	Believe(ctx context.Context, text, word []byte) bool
}

const (
	// wordParam is the Via parameter with a word: four bytes of time, in seconds, and the signature, in base64url.
	wordParam = "p2psip-word"
	// wordAge is how long a number may ring before the call is diverted: Timer C (§16.6), and what clocks may be wrong by.
	wordAge  = 3*time.Minute + wordSkew
	wordSkew = 5 * time.Minute
	// maxWords is how many words of one request are looked at, and maxWord how long one may be.
	maxWords = 2
	maxWord  = 512
)

// claims says that a request from outside says that it is from a user of the overlay, outside a dialog.
func (c *Core) claims(r *request) bool {
	return r.toTag == "" && c.own.domain(r.req.From().Address.Host)
}

func (c *Core) noneOutside() string {
	return "users of " + string(c.cfg.OID) + " do not call from outside"
}

// vouch puts this node's word into the Via of a request that leaves the overlay, if it needs one.
func (c *Core) vouch(r *request, fwd *sip.Request, out flow.Flow) {
	if c.cfg.Words == nil || r.toTag != "" || r.kind == flow.KindPublic || flow.KindOf(out) != flow.KindPublic || !c.own.domain(fwd.From().Address.Host) {
		return
	}
	var at [4]byte
	binary.BigEndian.PutUint32(at[:], uint32(time.Now().Unix()))
	word, err := c.cfg.Words.Give(wordText(fwd, at))
	if err != nil {
		c.log.Warn("a request leaves without this node's word for its From", "error", err)
		return
	}
	fwd.Via().Params = append(fwd.Via().Params, sip.HeaderKV{K: wordParam, V: base64.RawURLEncoding.EncodeToString(append(at[:], word...))})
}

// vouchers gives what stands in a request as words of proxy peers.
func vouchers(r *request) (words []string) {
	for _, v := range r.vias {
		if w, ok := v.Params.Get(wordParam); ok && len(w) <= maxWord && len(words) < maxWords {
			words = append(words, w)
		}
	}
	return words
}

// vouchedFor says that a request has left the overlay through a proxy peer whose word for its From came back with it.
func (c *Core) vouchedFor(ctx context.Context, r *request) bool {
	if c.cfg.Words == nil {
		return false
	}
	for _, w := range vouchers(r) {
		b, err := base64.RawURLEncoding.DecodeString(w)
		if err != nil || len(b) < 4 {
			continue
		}
		at := [4]byte(b)
		age := time.Since(time.Unix(int64(binary.BigEndian.Uint32(at[:])), 0))
		if age <= wordAge && age >= -wordSkew && c.cfg.Words.Believe(ctx, wordText(r.req, at), b[4:]) {
			return true
		}
	}
	return false
}

// wordText is what a word is given for.
func wordText(req *sip.Request, at [4]byte) []byte {
	var buf [512]byte
	b := append(buf[:0], at[:]...)
	put := func(s string) { b = append(append(b, s...), 0) }
	from := req.From()
	tag, _ := from.Params.Get("tag")
	put(string(req.Method))
	put(strconv.FormatUint(uint64(req.CSeq().SeqNo), 10))
	put(string(*req.CallID()))
	put(tag)
	put(from.Address.User)
	for _, h := range req.Headers() {
		if contact, ok := message.ReadContact(h); ok {
			put(contact.Address.String())
		}
	}
	return b
}
