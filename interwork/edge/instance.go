package edge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/overlay"
)

// A device is named by the value of the gr parameter of its GRUU (RFC 5627 §3.1), which is also its overlay.Device.ID: the
// URN that a phone brings as +sip.instance, or one that is made here for a phone that brings none.

const (
	maxInstance = 64 // bytes of a device name; package overlay publishes no longer one

	// maxKnown bounds the devices of one user that are remembered after they have gone, and knownFor how long: a GRUU of
	// one of them is answered 480, any other 404.
	maxKnown = 32
	knownFor = 30 * 24 * time.Hour
)

// deviceID names the device that a contact belongs to. The instance alone decides for a phone that sends one, so that it
// keeps its name at another node of its user; otherwise the host and port of its contact do, whatever user part it makes
// up at every start, mixed with this node's secret, because an address is easily guessed from a plain hash.
func deviceID(secret []byte, aor overlay.AOR, c *claim) string {
	if c.instance == "" {
		return madeURN(hmac.New(sha256.New, secret), "place", aor.String(), foldHost(c.uri.Host), strconv.Itoa(c.uri.Port))
	}
	if id := instanceID(c.instance); id != "" {
		return id
	}
	return madeURN(sha256.New(), "instance", aor.String(), strings.ToLower(c.instance))
}

// contactID names a device by its contact alone: for a second one in the place of another.
func contactID(secret []byte, aor overlay.AOR, c *claim) string {
	return madeURN(hmac.New(sha256.New, secret), "contact", aor.String(), uriKey(c.uri))
}

// instanceID gives the device name that a +sip.instance value is, or "" when it is fit for none. Comparison of URIs folds
// the case of parameters (RFC 3261 §19.1.4), so a name has lower case only.
func instanceID(instance string) string {
	s := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(instance, "<"), ">"))
	if len(s) > maxInstance || !strings.HasPrefix(s, "urn:") {
		return ""
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("-._~:", c) < 0 {
			return ""
		}
	}
	return s
}

// madeURN hashes parts to a UUID of version 8 (RFC 9562 §5.8).
func madeURN(h interface {
	Write([]byte) (int, error)
	Sum([]byte) []byte
}, parts ...string) string {
	for _, p := range append([]string{"p2psip device"}, parts...) {
		h.Write([]byte(strconv.Itoa(len(p)) + ":" + p))
	}
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	x := hex.EncodeToString(u)
	return "urn:uuid:" + strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}

// remember notes that a device of a user has registered, so that its public GRUU is known when it is away. Callers hold mu.
func (e *Edge) remember(aor overlay.AOR, id string) {
	m := e.devices[aor]
	if m == nil {
		if len(e.devices) >= e.c.MaxUsers {
			return
		}
		m = make(map[string]time.Time)
		e.devices[aor] = m
	}
	m[id] = e.c.Now()
	for len(m) > maxKnown {
		oldest := ""
		for k, t := range m {
			if oldest == "" || t.Before(m[oldest]) {
				oldest = k
			}
		}
		delete(m, oldest)
	}
}

// knows says that a device of a user has registered here in the last month. Callers hold mu.
func (e *Edge) knows(aor overlay.AOR, id string) bool {
	t, ok := e.devices[aor][id]
	return ok && e.c.Now().Sub(t) < knownFor
}

// savedDevices is what is kept on disk of the devices of a user.
type savedDevices struct {
	AOR     string               `json:"aor"`
	Devices map[string]time.Time `json:"devices"` // with the time of the last registration
}

// saveKnown gives what belongs on disk. Callers hold mu.
func (e *Edge) saveKnown() []savedDevices {
	var out []savedDevices
	for aor, m := range e.devices {
		s := savedDevices{AOR: aor.String(), Devices: make(map[string]time.Time, len(m))}
		for id, t := range m {
			s.Devices[id] = t.UTC().Truncate(time.Second)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b savedDevices) int { return strings.Compare(a.AOR, b.AOR) })
	return out
}

// restoreKnown is the inverse.
func (e *Edge) restoreKnown(saved []savedDevices) {
	now := e.c.Now()
	for _, s := range saved {
		aor, err := overlay.ParseAOR(s.AOR)
		if err != nil || aor.Host() != e.c.OID {
			continue
		}
		for id, t := range s.Devices {
			if len(id) <= maxInstance && now.Sub(t) < knownFor && (e.devices[aor] != nil || len(e.devices) < e.c.MaxUsers) {
				if e.devices[aor] == nil {
					e.devices[aor] = make(map[string]time.Time)
				}
				if len(e.devices[aor]) < maxKnown {
					e.devices[aor][id] = t
				}
			}
		}
	}
}

// hasTag says whether a header that lists option tags, such as Supported, has one.
func hasTag(req *sip.Request, header, tag string) bool {
	for _, h := range req.GetHeaders(header) {
		for t := range strings.SplitSeq(h.Value(), ",") {
			if strings.EqualFold(strings.TrimSpace(t), tag) {
				return true
			}
		}
	}
	return false
}
