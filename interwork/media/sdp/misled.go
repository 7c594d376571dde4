package sdp

// Misled reports an ICE mismatch (RFC 8839 §4.2.5): there are candidates, but the default destination is none of them, so
// somebody on the way has changed c= or m= who knows nothing of ICE. The port 9 and unspecified addresses are what a description
// has whose candidates are still to come (RFC 8840 §4.1.1), and a name cannot be compared.
func (t Transport) Misled() bool {
	if !t.ICE.Usable() || len(t.ICE.Candidates) == 0 || t.RTP.Port() == 9 || !t.RTP.Addr().IsValid() ||
		t.RTP.Addr().IsUnspecified() {
		return false
	}
	for _, c := range t.ICE.Candidates {
		if c.Component != 1 {
			continue
		}
		if a, ok := c.Addr(); !ok || a == t.RTP {
			return false
		}
	}
	return true
}
