package media

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"p2psip/interwork/media/sdp"
)

// carrier is how packets travel on one side: phoneCarrier, farCarrier.
type carrier interface {
	// write sends a packet as it is.
	write(b []byte, rtcp bool)
}

// leg is one side of a stream: what is decrypted on the way in and encrypted on the way out, and counted. How packets travel
// is its carrier's matter. It begins with nothing being let through in either direction.
type leg struct {
	carrier carrier
	peer    atomic.Pointer[leg] // where goes what comes in; nil: nowhere
	dtls    atomic.Pointer[association]
	lastIn  atomic.Int64           // Unix nanoseconds of the latest packet that was accepted, 0: none
	first   atomic.Pointer[func()] // called at the first RTP packet; may be nil

	inMu   sync.Mutex
	opener *opener // nil: see clearIn
	clearIn,
	heardAny bool
	meter meter

	outMu    sync.Mutex
	sealer   *sealer // nil: see clearOut
	clearOut bool
	scratch  [2048]byte

	recordMu sync.Mutex
	early    [][]byte // DTLS records that came before there was an association; at most maxHeld

	cryptoMu sync.Mutex
	crypto   string        // for the status: "DTLS-SRTP AEAD_AES_128_GCM", "none", "" while nothing is agreed
	sdes     [2]sdp.Crypto // ours and theirs in use
	trouble  string
}

// receive takes a packet from a source that the carrier believes. b is changed, and free again afterwards. A packet that makes
// something below panic costs itself only.
func (l *leg) receive(b []byte) {
	defer func() {
		if recover() != nil {
			l.strange()
		}
	}()
	switch {
	case isDTLS(b):
		l.record(b)
		return
	case !isRTP(b):
		l.strange()
		return
	}
	rtcp, now := isRTCP(b), time.Now()
	b, first := l.open(b, rtcp, now)
	if b == nil {
		return
	}
	l.lastIn.Store(now.UnixNano())
	if first {
		if f := l.first.Load(); f != nil {
			(*f)()
		}
	}
	if p := l.peer.Load(); p != nil {
		p.send(b, rtcp)
	}
}

// open decrypts a packet and counts it; nil if it is not to be believed. first: there was no RTP before.
func (l *leg) open(b []byte, rtcp bool, now time.Time) (out []byte, first bool) {
	l.inMu.Lock()
	defer l.inMu.Unlock()
	switch {
	case l.opener != nil:
		var err error
		if b, err = l.opener.open(b, rtcp); err != nil {
			l.meter.strange++
			return nil, false
		}
	case !l.clearIn || !rtcp && len(b) < 12:
		l.meter.strange++
		return nil, false
	}
	if rtcp {
		l.meter.rtcp++
		return b, false
	}
	l.meter.rtpPacket(b, now)
	first, l.heardAny = !l.heardAny, true
	return b, first
}

// record hands a DTLS record to the association. The far side may begin a moment before this one does: the first few
// records are kept.
func (l *leg) record(b []byte) {
	l.recordMu.Lock()
	defer l.recordMu.Unlock()
	if a := l.dtls.Load(); a != nil {
		a.take(b)
	} else if len(l.early) < maxHeld {
		l.early = append(l.early, slices.Clone(b))
	}
}

// associate makes a the association that records go to, nil for none, and gives the one before.
func (l *leg) associate(a *association) *association {
	l.recordMu.Lock()
	defer l.recordMu.Unlock()
	old := l.dtls.Swap(a)
	if a != nil {
		for _, b := range l.early {
			a.take(b)
		}
	}
	l.early = nil
	return old
}

// send sends a clear packet by this leg, or nothing while it has no keys.
func (l *leg) send(b []byte, rtcp bool) {
	l.outMu.Lock()
	defer l.outMu.Unlock()
	switch {
	case l.sealer != nil:
		out, err := l.sealer.seal(l.scratch[:0], b, rtcp)
		if err != nil {
			return
		}
		l.carrier.write(out, rtcp)
	case l.clearOut:
		l.carrier.write(b, rtcp)
	}
}

// strange counts a packet that was dropped.
func (l *leg) strange() {
	l.inMu.Lock()
	l.meter.strange++
	l.inMu.Unlock()
}

// setClear lets packets through as they are. Never called for a leg between nodes.
func (l *leg) setClear() {
	l.inMu.Lock()
	already := l.clearIn
	l.inMu.Unlock()
	if already {
		return
	}
	l.stopDTLS()
	l.setKeys(nil, nil, "none")
	l.inMu.Lock()
	l.clearIn = true
	l.inMu.Unlock()
	l.outMu.Lock()
	l.clearOut = true
	l.outMu.Unlock()
}

// setKeys replaces what packets are decrypted and encrypted with; nil, nil closes the leg.
func (l *leg) setKeys(in *opener, out *sealer, name string) {
	l.inMu.Lock()
	l.opener, l.clearIn = in, false
	l.inMu.Unlock()
	l.outMu.Lock()
	l.sealer, l.clearOut = out, false
	l.outMu.Unlock()
	l.cryptoMu.Lock()
	l.crypto, l.trouble, l.sdes = name, "", [2]sdp.Crypto{}
	l.cryptoMu.Unlock()
}

// fail says for the status why nothing passes.
func (l *leg) fail(why string) {
	l.cryptoMu.Lock()
	l.trouble = why
	l.cryptoMu.Unlock()
}

// setSDES takes the keys that two crypto attributes have agreed on (RFC 4568 §7.1.2): ours is what we send with.
func (l *leg) setSDES(ours, theirs sdp.Crypto) error {
	l.cryptoMu.Lock()
	// The same keys again, as in a re-INVITE: they go on, with what has been counted for them.
	again := sameKey(l.sdes[0], ours) && sameKey(l.sdes[1], theirs)
	l.cryptoMu.Unlock()
	if again {
		return nil
	}
	s, ok1 := secretOf(ours)
	r, ok2 := secretOf(theirs)
	if !ok1 || !ok2 {
		return &Refusal{488, "no crypto suite in common"}
	}
	out, err := newSealer(s)
	if err != nil {
		return err
	}
	in, err := newOpener(r)
	if err != nil {
		return err
	}
	l.stopDTLS()
	l.setKeys(in, out, "SDES "+ours.Suite)
	l.cryptoMu.Lock()
	l.sdes = [2]sdp.Crypto{ours, theirs}
	l.cryptoMu.Unlock()
	return nil
}

func sameKey(a, b sdp.Crypto) bool {
	return a.KeySalt != "" && a.KeySalt == b.KeySalt && a.Suite == b.Suite && a.MKI == b.MKI
}

// startDTLS begins an association (RFC 5764) and closes the leg until it is there. One that goes on with the same parties is
// left alone.
func (l *leg) startDTLS(p dtlsParams) {
	old := l.dtls.Load()
	if old != nil && old.params.same(p) {
		return
	}
	l.setKeys(nil, nil, "")
	a := newAssociation(p, func(b []byte) { l.carrier.write(b, false) })
	l.associate(a)
	if old != nil {
		old.close()
	}
	a.run(func(in *opener, out *sealer, name string, err error) {
		if l.dtls.Load() != a {
			return
		}
		if err != nil {
			l.fail("DTLS: " + err.Error())
			return
		}
		l.setKeys(in, out, name)
	})
}

// stopDTLS ends the association, for a leg that ends or goes on without.
func (l *leg) stopDTLS() {
	if a := l.associate(nil); a != nil {
		a.close()
	}
}

func (l *leg) stats() LegStats {
	l.inMu.Lock()
	defer l.inMu.Unlock()
	return l.meter.stats()
}

func (l *leg) cryptoStatus() (crypto, trouble string) {
	l.cryptoMu.Lock()
	defer l.cryptoMu.Unlock()
	return l.crypto, l.trouble
}

// setRates tells the clocks of payload types, for the jitter.
func (l *leg) setRates(rate func(uint8) uint32) {
	l.inMu.Lock()
	l.meter.rate = rate
	l.inMu.Unlock()
}

// silentSince says that nothing has been accepted since then.
func (l *leg) silentSince(t time.Time) bool { return l.lastIn.Load() < t.UnixNano() }

// addrOf is the zero AddrPort for an address that is not to be sent to.
func addrOf(a netip.AddrPort) netip.AddrPort {
	if !a.IsValid() {
		return netip.AddrPort{}
	}
	return unmap(a)
}
