package relaypeer

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun"

	"p2psip/overlay"
)

const (
	// probeTime bounds the trying of one address; probeAgain is when a datagram is taken for lost.
	probeTime  = 3 * time.Second
	probeAgain = 400 * time.Millisecond
	// maxProbing bounds the questions that are being answered; probePause is how often one member may ask.
	maxProbing = 4
	probePause = 5 * time.Second
	maxProbers = 256 // members remembered for that
)

// Dial opens a connection, or a socket for UDP; net.Dialer.DialContext is one.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Prober tries addresses of relay peers on their behalf. Every member should have one.
//
// Nobody can make it send anywhere else than to themselves: it tries only the very IP address that the question comes from, for
// members that may be relay peers, with one small packet an address, and not often.
type Prober struct {
	dial Dial
	now  func() time.Time

	slots chan struct{}
	mu    sync.Mutex // guards both
	last  map[overlay.NodeID]time.Time
	over  bool
	wg    sync.WaitGroup
	ctx   context.Context
	stop  context.CancelFunc
}

// NewProber makes a Prober; dial nil is net.Dialer's, now nil is time.Now.
func NewProber(dial Dial, now func() time.Time) *Prober {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if now == nil {
		now = time.Now
	}
	p := &Prober{dial: dial, now: now, slots: make(chan struct{}, maxProbing), last: map[overlay.NodeID]time.Time{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// Serve answers one question; it is made for overlay.HandleService.
func (p *Prober) Serve(st *overlay.Stream) {
	defer st.Close()
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.wg.Add(1)
	p.mu.Unlock()
	defer p.wg.Done()
	defer context.AfterFunc(p.ctx, func() { st.Reset() })()
	defer func() { _ = recover() }() // costs this question
	_ = st.SetDeadline(time.Now().Add(probeTime + streamTime))
	list, err := readTargets(st)
	if err != nil {
		return
	}
	if why := p.admit(st.Member); why != "" {
		err = writeOutcomes(st, why, nil)
	} else {
		err = writeOutcomes(st, "", p.try(st.Remote(), list))
		<-p.slots
	}
	if err == nil {
		linger(st)
	}
}

// admit says why a member's question is not answered; "" takes a slot.
func (p *Prober) admit(m *overlay.Member) string {
	if !m.Permits(overlay.RoleRelay) {
		return "the credential does not permit to be a relay peer"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if t, ok := p.last[m.Node]; ok && now.Sub(t) < probePause {
		return "asked too often"
	}
	select {
	case p.slots <- struct{}{}:
	default:
		return "busy"
	}
	if len(p.last) >= maxProbers {
		clear(p.last)
	}
	p.last[m.Node] = now
	return ""
}

// try tries the addresses, all at once.
func (p *Prober) try(from netip.Addr, list []target) []outcome {
	out := make([]outcome, len(list))
	ctx, cancel := context.WithTimeout(p.ctx, probeTime)
	defer cancel()
	var wg sync.WaitGroup
	for i, t := range list {
		if t.addr.Addr() != from {
			out[i] = notTried
			continue
		}
		wg.Go(func() {
			if probe(ctx, p.dial, t) != nil {
				out[i] = notReached
			}
		})
	}
	wg.Wait()
	return out
}

// Close ends what is under way and waits for it.
func (p *Prober) Close() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.stop()
	p.wg.Wait()
}

// probe sends a STUN Binding request to an address and waits for the answer. The request is padded, so that the answer is
// smaller.
func probe(ctx context.Context, dial Dial, t target) error {
	network := "udp"
	if t.transport != UDP {
		network = "tcp"
	}
	c, err := dial(ctx, network, t.addr.String())
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if t.transport == TLS {
		// Who the far side is does not matter: that it answers does.
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if err := s.HandshakeContext(ctx); err != nil {
			return err
		}
		c = s
	}
	m := &stun.Message{TransactionID: t.token, Type: stun.BindingRequest}
	m.WriteHeader()
	m.Add(stun.AttrSoftware, []byte("p2psip: are you there?          "))
	if t.transport != UDP {
		if _, err := c.Write(m.Raw); err != nil {
			return err
		}
		b := make([]byte, headerSize)
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		return answers(b, t.token)
	}
	b := make([]byte, 1500)
	for ctx.Err() == nil {
		if _, err := c.Write(m.Raw); err != nil && !errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(probeAgain))
		if ctx.Err() != nil {
			break
		}
		n, err := c.Read(b)
		if err == nil && answers(b[:n], t.token) == nil {
			return nil
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				continue
			}
			select { // most likely ICMP: nobody there yet
			case <-ctx.Done():
			case <-time.After(probeAgain):
			}
		}
	}
	return fmt.Errorf("no answer from %s over %s", t.addr, t.transport)
}

// answers says whether a message is the answer to a Binding request.
func answers(b []byte, token [12]byte) error {
	if len(b) < headerSize || binary.BigEndian.Uint16(b) != 0x0101 || [12]byte(b[8:20]) != token {
		return errors.New("not the answer to a Binding request")
	}
	return nil
}
