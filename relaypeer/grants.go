package relaypeer

import (
	"context"
	"errors"
	"io"
	"time"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

// Overlay is where a relay peer serves; overlay.Peer is one.
type Overlay interface {
	Offer(r overlay.Role, describe func() overlay.Offer) (*overlay.Offering, error)
	OpenService(ctx context.Context, s overlay.Service, n overlay.NodeID, addrs []string) (*overlay.Stream, error)
	HandleService(s overlay.Service, f func(*overlay.Stream))
	Connected() []overlay.NodeID
}

var _ Overlay = (*overlay.Peer)(nil)

const (
	// streamTime bounds a question and its answer.
	streamTime = 5 * time.Second
	// maxAsking bounds the streams that are being answered.
	maxAsking = 64
	// retryGrant is when who was refused may ask again.
	retryGrant = time.Minute
)

// grant answers questions for credentials; overlay.HandleService calls it, each time on a goroutine of its own. The stream has
// shown that a member asks.
func (r *role) grant(st *overlay.Stream) {
	defer st.Close()
	s := r.s
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return
	}
	r.answering.Add(1)
	r.mu.Unlock()
	defer r.answering.Done()
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	default:
		s.stats.limited.Add(1)
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.stats.panics.Add(1)
		}
	}()
	_ = st.SetDeadline(time.Now().Add(streamTime))
	err := credential.ReadQuestion(st)
	var no *credential.Refusal
	switch {
	case errors.As(err, &no):
	case err != nil:
		return
	default:
		no = r.mayGrant(st.Member.Node.String())
	}
	if no != nil {
		err = credential.WriteRefusal(st, no)
	} else {
		g := r.make(st.Member.Node)
		s.sources.member(st.Remote(), s.now(), s.now().Add(g.Lifetime))
		err = credential.WriteGrant(st, g)
	}
	if err == nil {
		linger(st)
	}
}

// linger waits until the far side has read what was written and closes, so that Close does not take it away again.
func linger(st *overlay.Stream) {
	_ = st.CloseWrite()
	_, _ = io.CopyN(io.Discard, st, 1)
}

// mayGrant says why a member gets no credential now; nil if it gets one.
func (r *role) mayGrant(member string) *credential.Refusal {
	s := r.s
	switch {
	case s.draining():
		return &credential.Refusal{Code: credential.CodeDraining, Reason: errDraining.Error()}
	case len(r.services()) == 0:
		return &credential.Refusal{Code: credential.CodeNotReady, Reason: "it is not certain yet that this relay peer can be reached", Retry: retryGrant}
	}
	switch err := s.members.mayHave(member, s.now()); {
	case errors.Is(err, errQuota):
		return &credential.Refusal{Code: credential.CodeQuota, Reason: err.Error(), Retry: retryGrant}
	case err != nil:
		return &credential.Refusal{Code: credential.CodeBusy, Reason: err.Error(), Retry: retryGrant}
	}
	return nil
}

// make makes a member's credential.
func (r *role) make(member overlay.NodeID) credential.Grant {
	s := r.s
	s.stats.grants.Add(1)
	now := s.now()
	g := credential.Grant{Realm: Realm, Nonce: s.nonces.forMember(member.String(), now), Lifetime: credential.DefaultLifetime, URIs: r.services()}
	g.Username, g.Password = s.cfg.Secret.Issue(member, now.Add(g.Lifetime))
	for _, k := range s.cfg.Sockets {
		if key := publicKeyHash(k.TLS); key != nil && len(g.Keys) < 4 {
			g.Keys = append(g.Keys, key)
		}
	}
	return g
}
