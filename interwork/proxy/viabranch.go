package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

// A branch of this node has three parts of 16 hexadecimal digits after "z9hG4bK":
//
//	random     makes it unique
//	proof      HMAC-SHA256 over the random part and the Via below, truncated: a response without transaction is sent on
//	           by its second Via only when the proof holds, so nobody can make this node send to a place of his choice
//	loop       hash of what the routing decision depends on (RFC 5393 §4.2.1): a request that comes back with the same
//	           one has looped
type branches struct {
	key    mac
	seed   uint64 // of the loop part
	random func() uint64
}

// newBranches makes the branches of a node. They depend on its secret and on random alone.
func newBranches(secret []byte, random rand.Source) branches {
	b := branches{key: deriveMAC(secret, "branch"), random: rand.Uint64}
	loop := deriveMAC(secret, "loop")
	sum := loop.sum(nil)
	b.seed = binary.BigEndian.Uint64(sum[:])
	if random != nil {
		var mu sync.Mutex
		b.random = func() uint64 {
			mu.Lock()
			defer mu.Unlock()
			return random.Uint64()
		}
	}
	return b
}

const (
	branchPrefix = "z9hG4bK"
	partLen      = 16
	branchLen    = len(branchPrefix) + 3*partLen
)

// loopHash is the loop part of a branch.
type loopHash [partLen]byte

// make gives a fresh branch for a request whose topmost Via is below, which came from the public side or not, and whose loop
// hash is loop.
func (b *branches) make(below *sip.ViaHeader, public bool, loop loopHash) string {
	var buf [branchLen]byte
	out := append(buf[:0], branchPrefix...)
	out = appendHex(out, b.random())
	out = b.proof(out, below, public)
	out = append(out, loop[:]...)
	return string(out)
}

// proof appends the proof over the random part, which ends out.
func (b *branches) proof(out []byte, below *sip.ViaHeader, public bool) []byte {
	var buf [256]byte
	t := append(buf[:0], out[len(out)-partLen:]...)
	if below != nil {
		br, _ := below.Params.Get("branch")
		t = append(t, below.Host...)
		t = append(t, 0)
		t = strconv.AppendInt(t, int64(below.Port), 10)
		t = append(t, 0)
		t = append(t, br...)
		for _, p := range [...]string{"received", "rport"} {
			v, _ := below.Params.Get(p)
			t = append(t, 0)
			t = append(t, v...)
		}
	}
	if public {
		t = append(t, "\x00public"...)
	}
	sum := b.key.sum(t)
	return hex.AppendEncode(out, sum[:partLen/2])
}

// proves says whether this node made the branch for a request whose topmost Via was below.
func (b *branches) proves(branch string, below *sip.ViaHeader, public bool) bool {
	if len(branch) != branchLen || !strings.HasPrefix(branch, branchPrefix) {
		return false
	}
	at := len(branchPrefix) + partLen
	var buf [branchLen]byte
	want := b.proof(append(buf[:0], branch[:at]...), below, public)
	return equal(want, []byte(branch[:at+partLen]))
}

// loop gives the loop part for a request after its own routes are off.
func (b *branches) loop(r *request) (out loopHash) {
	h := b.seed
	w := func(s string) { // FNV-1a: whoever makes two requests collide has only his own refused
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h *= 1099511628211
	}
	w(r.uri.User)
	w(strings.ToLower(r.uri.Host))
	w(strconv.Itoa(r.uri.Port))
	for _, p := range r.uri.UriParams {
		w(p.K)
		w(p.V)
	}
	w(r.fromTag)
	w(r.toTag)
	w(r.callID)
	w(strconv.FormatUint(uint64(r.cseq), 10))
	for i := range r.routes {
		w(r.routes[i].value())
	}
	w(r.token)
	w(r.proxyAuth)
	switch r.kind { // §4.2.1: where a request came from decides here what is done with it
	case flow.KindEdge:
		w("edge")
	case flow.KindPeer:
		w("peer")
	default:
		w("public")
	}
	appendHex(out[:0], h)
	return out
}

// looped says whether one of the request's Vias was written by this node for the same decision.
func (b *branches) looped(vias []*sip.ViaHeader, loop loopHash) bool {
	for _, v := range vias {
		br, _ := v.Params.Get("branch")
		if len(br) == branchLen && br[branchLen-partLen:] == string(loop[:]) {
			return true
		}
	}
	return false
}

func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for i := 60; i >= 0; i -= 4 {
		b = append(b, digits[v>>uint(i)&15])
	}
	return b
}
