package proxy

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// The Vias below that of a proxy peer name the caller's node and say where its phone is. What leaves the overlay has one Via
// in their place, of the overlay, whose branch is all of them, encrypted; the response brings it back, and they are restored.
// The key is the proxy peer's own, made from its secret, because a response comes back to the proxy peer that is in the
// topmost Via: a restart between the two does no harm. The proxy peer's own Via stays to be seen, so loops and spirals
// through the public side are found by it as before; the proof in its branch is over the Via that is hidden.
type hider struct{ aead cipher.AEAD }

func newHider(secret []byte) hider {
	m := deriveMAC(secret, "via hiding")
	key := m.sum(nil)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // the block has 16 bytes
	}
	return hider{aead}
}

// hiddenPrefix begins the branch of a Via that stands for others.
const hiddenPrefix = branchPrefix + "-hid-"

// hides says that a request that leaves on out shows the public side none of the Vias it came with.
func (c *Core) hides(r *request, out flow.Flow) bool {
	return c.cfg.Border != nil && !c.cfg.ShowVias && r.kind != flow.KindPublic && flow.KindOf(out) == flow.KindPublic
}

// hide makes the Via that stands for others.
func (c *Core) hide(vias []*sip.ViaHeader) *sip.ViaHeader {
	var buf [512]byte
	b := buf[:0]
	put := func(s string) { b = append(append(b, s...), 0) }
	for _, v := range vias {
		put(v.Transport)
		put(v.Host)
		put(strconv.Itoa(v.Port))
		put(strconv.Itoa(len(v.Params)))
		for _, p := range v.Params {
			put(p.K)
			put(p.V)
		}
	}
	sealed := c.hider.aead.Seal(nil, nil, b, []byte(c.cfg.OID))
	return &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: "TLS", Host: string(c.cfg.OID),
		Params: sip.HeaderParams{{K: "branch", V: hiddenPrefix + base64.RawURLEncoding.EncodeToString(sealed)}}}
}

// hidden gives the Vias that a Via of this proxy peer stands for; ok is false for any other Via.
func (c *Core) hidden(v *sip.ViaHeader) (vias []*sip.ViaHeader, ok bool) {
	if v == nil || c.cfg.Border == nil {
		return nil, false
	}
	branch, _ := v.Params.Get("branch")
	text, ok := strings.CutPrefix(branch, hiddenPrefix)
	if !ok {
		return nil, false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	b, err := c.hider.aead.Open(nil, nil, sealed, []byte(c.cfg.OID))
	if err != nil {
		return nil, false
	}
	fields := strings.Split(string(b), "\x00") // a zero is in no field of a message that was let through
	fields = fields[:len(fields)-1]
	for len(fields) >= 4 {
		port, err1 := strconv.Atoi(fields[2])
		n, err2 := strconv.Atoi(fields[3])
		if err1 != nil || err2 != nil || n < 0 || n > len(fields)/2 || len(fields) < 4+2*n {
			return nil, false
		}
		h := &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: fields[0], Host: fields[1], Port: port}
		for i := range n {
			h.Params = append(h.Params, sip.HeaderKV{K: fields[4+2*i], V: fields[5+2*i]})
		}
		vias, fields = append(vias, h), fields[4+2*n:]
	}
	return vias, len(vias) > 0 && len(fields) == 0
}

// restore puts the Vias back into a response for which the topmost one stands.
func (c *Core) restore(res *sip.Response) {
	vias, ok := c.hidden(res.Via())
	if !ok || !message.PopVia(res) {
		return
	}
	for i := len(vias) - 1; i >= 0; i-- {
		res.PrependHeader(vias[i])
	}
}
