package media

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v2"
	"github.com/pion/stun"
	"github.com/pion/transport/v2"

	"p2psip/interwork/media/sdp"
)

// path is a pair of candidates that works: where to send.
type path struct {
	sock   *socket
	remote netip.AddrPort
	typ    string // of the remote candidate
}

// generation is a bundle with an agent above it: ICE for one stream, from one gathering to the next. Its owner gets three calls,
// on goroutines of the agent:
//
//	received   a packet that is no STUN, from an address that has proved itself; the octets are the owner's until it returns
//	selected   a pair was selected, the first or another
//	trouble    consent has been lost (lasting is false: it may come back), or no pair was found (true)
type generation struct {
	bundle   *bundle
	net      transport.Net
	loopback bool

	received func(b []byte)
	strange  func()
	selected func(g *generation)
	trouble  func(g *generation, lasting bool)

	path   atomic.Pointer[path]
	remote atomic.Pointer[[]sdp.Candidate] // that are tried
	lost   atomic.Bool                     // consent is lost now

	mu      sync.Mutex
	agent   *ice.Agent
	cancel  context.CancelFunc
	closed  bool
	peer    [2]string // credentials of the far side that agent works with
	waiting []held    // DTLS records from candidates that have not proved themselves yet
	wg      sync.WaitGroup
}

// held is a record that came before its sender had proved itself.
type held struct {
	sock *socket
	from netip.AddrPort
	b    []byte
}

// maxHeld bounds what waits for its sender's proof: a flight of DTLS is at most that many datagrams.
const maxHeld = 8

// start runs ICE with the far side. controlling is the role (RFC 8445 §6.1.1). A second call with other credentials begins anew on the
// same sockets (another party answers); with the same it adds candidates.
func (g *generation) start(remote *sdp.ICE, controlling bool) error {
	if !remote.Usable() {
		return fmt.Errorf("media: the far side says nothing that ICE could begin with")
	}
	candidates := g.admissible(remote.Candidates)
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return errSessionOver
	}
	old, again := g.agent, g.peer == [2]string{remote.Ufrag, remote.Pwd}
	if again {
		defer g.mu.Unlock()
		return g.add(candidates)
	}
	g.agent = nil
	g.mu.Unlock()
	if old != nil {
		g.stop(old)
	}

	if remote.Lite {
		controlling = true // we are a full agent, and it is none
	}
	g.remote.Store(nil)
	agent, err := g.newAgent(candidates)
	if err != nil {
		return fmt.Errorf("media: cannot run ICE: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		cancel()
		agent.Close()
		return errSessionOver
	}
	g.agent, g.cancel, g.peer = agent, cancel, [2]string{remote.Ufrag, remote.Pwd}
	err = g.add(candidates)
	if err == nil {
		err = agent.GatherCandidates()
	}
	g.mu.Unlock()
	if err != nil {
		return fmt.Errorf("media: cannot run ICE: %w", err)
	}
	g.wg.Go(func() {
		// It returns when a pair is selected, or the agent is closed. The callbacks say the rest.
		if controlling {
			_, _ = agent.Dial(ctx, remote.Ufrag, remote.Pwd)
		} else {
			_, _ = agent.Accept(ctx, remote.Ufrag, remote.Pwd)
		}
	})
	return nil
}

// add gives the agent candidates that it does not have. g.mu is held.
func (g *generation) add(candidates []sdp.Candidate) error {
	var have []sdp.Candidate
	if p := g.remote.Load(); p != nil {
		have = *p
	}
	for _, c := range candidates {
		if slices.Contains(have, c) || len(have) >= maxRemoteCandidates {
			continue
		}
		rc, err := remoteCandidate(c)
		if err != nil {
			continue
		}
		have = append(slices.Clone(have), c)
		if err := g.agent.AddRemoteCandidate(rc); err != nil {
			return fmt.Errorf("media: a candidate of the far side: %w", err)
		}
	}
	g.remote.Store(&have)
	return nil
}

func (g *generation) newAgent(remote []sdp.Candidate) (*ice.Agent, error) {
	relays := relayMux{g}
	urls := relays.urls()
	// Only relays, on one side or the other: there is nothing better to wait for.
	patience := relayPatience
	if len(urls) == len(g.bundle.socks) || !slices.ContainsFunc(remote, func(c sdp.Candidate) bool { return c.Type != "relay" }) {
		patience = 0
	}
	keepalive, disconnected, failed, check := keepaliveInterval, disconnectedAfter, failedAfter, checkInterval
	zero, tries := time.Duration(0), uint16(checksPerPair)
	cfg := &ice.AgentConfig{
		LocalUfrag: g.bundle.ufrag, LocalPwd: g.bundle.pwd,
		MulticastDNSMode:       ice.MulticastDNSModeDisabled,
		NetworkTypes:           []ice.NetworkType{ice.NetworkTypeUDP4, ice.NetworkTypeUDP6},
		CandidateTypes:         []ice.CandidateType{ice.CandidateTypeHost},
		UDPMux:                 hostMux{g},
		Net:                    g.net,
		LoggerFactory:          silent(),
		DisconnectedTimeout:    &disconnected,
		FailedTimeout:          &failed,
		KeepaliveInterval:      &keepalive,
		CheckInterval:          &check,
		MaxBindingRequests:     &tries,
		HostAcceptanceMinWait:  &zero,
		PrflxAcceptanceMinWait: &zero,
		SrflxAcceptanceMinWait: &patience, // of ours, which are relayed; see remoteCandidate
		RelayAcceptanceMinWait: &patience,
		DisableActiveTCP:       true,
		BindingRequestHandler: func(_ *stun.Message, local, remote ice.Candidate, _ *ice.CandidatePair) bool {
			g.proved(local, remote)
			return false
		},
	}
	if len(urls) > 0 {
		cfg.CandidateTypes = append(cfg.CandidateTypes, ice.CandidateTypeServerReflexive)
		cfg.UDPMuxSrflx, cfg.Urls = relays, urls
	}
	agent, err := ice.NewAgent(cfg)
	if err != nil {
		return nil, err
	}
	// These three only store the function.
	_ = agent.OnCandidate(func(ice.Candidate) {})
	_ = agent.OnSelectedCandidatePairChange(func(local, remote ice.Candidate) {
		if s, at := g.proved(local, remote); s != nil {
			g.path.Store(&path{sock: s, remote: at, typ: g.typeOf(at)})
			g.lost.Store(false)
			g.selected(g)
		}
	})
	_ = agent.OnConnectionStateChange(func(st ice.ConnectionState) {
		switch st {
		case ice.ConnectionStateConnected:
			g.lost.Store(false)
		case ice.ConnectionStateDisconnected:
			g.lost.Store(true)
			g.trouble(g, false)
		case ice.ConnectionStateFailed:
			g.lost.Store(true)
			g.trouble(g, true)
		}
	})
	return agent, nil
}

// proved notes that the far side of a pair has shown that it knows our password, and lets in what waited for that.
func (g *generation) proved(local, remote ice.Candidate) (*socket, netip.AddrPort) {
	at, err := netip.ParseAddr(local.Address())
	if err != nil {
		return nil, netip.AddrPort{}
	}
	s := g.bundle.find(netip.AddrPortFrom(at.Unmap(), uint16(local.Port())))
	from, err := netip.ParseAddr(remote.Address())
	if err != nil || s == nil {
		return nil, netip.AddrPort{}
	}
	addr := netip.AddrPortFrom(from.Unmap(), uint16(remote.Port()))
	if s.isProven(addr) {
		return s, addr
	}
	if !s.prove(addr) {
		return nil, netip.AddrPort{}
	}
	g.mu.Lock()
	var let []held
	g.waiting = slices.DeleteFunc(g.waiting, func(h held) bool {
		if h.sock == s && h.from == addr {
			let = append(let, h)
			return true
		}
		return false
	})
	g.mu.Unlock()
	for _, h := range let {
		g.received(h.b)
	}
	return s, addr
}

// inbound takes what is no STUN. A DTLS record may overtake the check that proves its sender: a few are kept if they come from
// an address that was announced.
func (g *generation) inbound(s *socket, from netip.AddrPort, b []byte) {
	if s.isProven(from) {
		g.received(b)
		return
	}
	if isDTLS(b) && g.isCandidate(from) {
		g.mu.Lock()
		if len(g.waiting) < maxHeld {
			g.waiting = append(g.waiting, held{s, from, slices.Clone(b)})
		}
		g.mu.Unlock()
		return
	}
	g.strange()
}

// isCandidate says whether the far side has announced that address.
func (g *generation) isCandidate(from netip.AddrPort) bool {
	return g.typeOf(from) != "prflx"
}

// typeOf gives the type of a remote candidate; one that was not announced is peer reflexive.
func (g *generation) typeOf(at netip.AddrPort) string {
	if p := g.remote.Load(); p != nil {
		for i := range *p {
			if a, ok := (*p)[i].Addr(); ok && a == at {
				return (*p)[i].Type
			}
		}
	}
	return "prflx"
}

// admissible drops candidates that are not to be tried, and keeps the best of the others.
func (g *generation) admissible(all []sdp.Candidate) []sdp.Candidate {
	var out []sdp.Candidate
	for _, c := range all {
		at, ok := c.Addr()
		if !ok || !c.UDP() || c.Component != 1 || !sendable(at, g.loopback) {
			continue
		}
		switch c.Type {
		case "host", "srflx", "prflx", "relay":
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b sdp.Candidate) int { return int(int64(b.Priority) - int64(a.Priority)) })
	if len(out) > maxRemoteCandidates {
		out = out[:maxRemoteCandidates]
	}
	return out
}

// sendable says whether an address that a stranger gave may be sent to at all.
func sendable(at netip.AddrPort, loopback bool) bool {
	a := at.Addr()
	switch {
	case !a.IsValid() || at.Port() == 0 || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast():
		return false
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return false
	}
	return loopback || !a.IsLoopback()
}

// remoteCandidate makes what the agent works with. It is patient with types rather than with pairs: relayed candidates of the
// far side wait, and of ours those that it takes for server reflexive. So reflexive ones of the far side, by which most homes
// reach each other, are given to it as host candidates; the order is that of the priorities, which are as they were sent.
func remoteCandidate(c sdp.Candidate) (ice.Candidate, error) {
	switch c.Type {
	case "prflx":
		return ice.NewCandidatePeerReflexive(&ice.CandidatePeerReflexiveConfig{Network: "udp", Address: c.Address,
			Port: int(c.Port), Component: 1, Priority: c.Priority, Foundation: c.Foundation, RelAddr: c.RelAddr, RelPort: int(c.RelPort)})
	case "relay":
		return ice.NewCandidateRelay(&ice.CandidateRelayConfig{Network: "udp", Address: c.Address,
			Port: int(c.Port), Component: 1, Priority: c.Priority, Foundation: c.Foundation, RelAddr: c.RelAddr, RelPort: int(c.RelPort)})
	}
	return ice.NewCandidateHost(&ice.CandidateHostConfig{Network: "udp", Address: c.Address,
		Port: int(c.Port), Component: 1, Priority: c.Priority, Foundation: c.Foundation})
}

// stop ends an agent and waits for it; its sockets stay open.
func (g *generation) stop(a *ice.Agent) {
	if g.cancel != nil {
		g.cancel()
	}
	_ = a.GracefulClose()
	g.wg.Wait()
	g.path.Store(nil)
	for _, s := range g.bundle.socks {
		s.forget()
		_ = s.setReadDeadline(time.Time{})
	}
}

// close ends the agent and the sockets, and waits for every goroutine. Not to be called from one of the callbacks.
func (g *generation) close() {
	g.mu.Lock()
	g.closed = true
	a := g.agent
	g.agent = nil
	g.mu.Unlock()
	if a != nil {
		g.stop(a)
	}
	g.bundle.close()
}
