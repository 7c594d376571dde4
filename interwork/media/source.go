package media

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// source decides which packets on a plain socket come from the phone, and where to send to (symmetric RTP, RFC 4961).
//
// The address in the phone's description may always send. While nothing has come from there, one other source may: the first
// that sends from the host that signals for the phone, as behind a NAT between the phone and this node. It stays the only
// one until the phone is described anew, or it has been silent for relatchAfter. Whoever else knows the port is not heard.
type source struct {
	now func() time.Time

	latched atomic.Pointer[latch] // what accept looks at first; replaced under mu
	mute    atomic.Bool           // the description wants nothing sent, as one of 0.0.0.0 does (RFC 3264 §8.4)

	mu       sync.Mutex
	host     netip.Addr     // that signals; the zero Addr: no latching
	expected netip.AddrPort // from the description
}

// latch is the source that is heard now. last is Unix nanoseconds of its latest packet.
type latch struct {
	from netip.AddrPort
	last atomic.Int64
}

// expect takes the address of a new description; at.Port() 0 where the phone is not to be sent to. anew says that this is another
// offer or answer than before, after which the phone may send from elsewhere.
func (s *source) expect(host netip.Addr, at netip.AddrPort, anew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host, s.expected = host.Unmap(), unmap(at)
	s.mute.Store(!at.IsValid() || at.Port() == 0 || at.Addr().IsUnspecified())
	if anew {
		// Who has been heard goes on being sent to until somebody is heard again: only its claim is gone.
		if l := s.latched.Load(); l != nil {
			l.last.Store(0)
		}
		if l := s.latched.Load(); l != nil && l.from.Addr() != s.host && l.from != s.expected {
			s.latched.Store(nil)
		}
	}
}

// accept says whether a packet from there is the phone's.
func (s *source) accept(from netip.AddrPort) bool {
	now := s.now().UnixNano()
	if l := s.latched.Load(); l != nil && l.from == from && l.last.Load() != 0 {
		if now-l.last.Load() > int64(100*time.Millisecond) {
			l.last.Store(now) // coarse: no write for every packet
		}
		return true
	}
	return s.relatch(from, now)
}

func (s *source) relatch(from netip.AddrPort, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.latched.Load()
	switch {
	case from == s.expected && s.expected.IsValid():
	case !s.host.IsValid() || from.Addr() != s.host:
		return false
	case l != nil && l.from != from && now-l.last.Load() < int64(relatchAfter):
		return false
	}
	n := &latch{from: from}
	n.last.Store(now)
	s.latched.Store(n)
	return true
}

// to is where to send; false where nothing is to be sent.
func (s *source) to() (netip.AddrPort, bool) {
	if s.mute.Load() {
		return netip.AddrPort{}, false
	}
	if l := s.latched.Load(); l != nil {
		return l.from, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expected, s.expected.IsValid()
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
