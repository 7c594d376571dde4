package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pion/stun"

	"p2psip/relaypeer/credential"
)

// maxChallenges is how often one request is repeated because its nonce was stale or a realm was asked for.
const maxChallenges = 3

// challenge is what a relay peer asks to be part of a request's integrity (RFC 8489 §9.2).
type challenge struct {
	realm, nonce string
}

// session authenticates requests over a link with one credential, which stays the same as long as the allocation does
// (RFC 8656 §5: another user name is answered with 441).
type session struct {
	link               *link
	username, password string

	mu  sync.Mutex
	ch  challenge             // guarded by mu
	key stun.MessageIntegrity // guarded by mu: of the realm in ch, nil before the first challenge
}

func newSession(l *link, g credential.Grant, hint challenge) *session {
	s := &session{link: l, username: g.Username, password: g.Password}
	if hint.realm != "" && hint.nonce != "" {
		s.challenged(hint)
	}
	return s
}

func (s *session) challenged(c challenge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil || s.ch.realm != c.realm {
		s.key = stun.NewLongTermIntegrity(s.username, c.realm, s.password)
	}
	s.ch = c
}

// hint gives the last challenge, with which the next session can begin.
func (s *session) hint() challenge {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ch
}

// build makes a request, authenticated once a challenge is known.
func (s *session) build(method stun.Method, attrs []stun.Setter) (*stun.Message, stun.MessageIntegrity, error) {
	s.mu.Lock()
	key, ch := s.key, s.ch
	s.mu.Unlock()
	list := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)
	if key != nil {
		list = append(list, stun.NewUsername(s.username), stun.NewRealm(ch.realm), stun.NewNonce(ch.nonce), key)
	}
	m, err := stun.Build(append(list, stun.Fingerprint)...)
	if err != nil {
		return nil, nil, fmt.Errorf("writing a request for a relay peer: %w", err)
	}
	return m, key, nil
}

// request sends a request, with the credential as often as it takes, and gives the success response or a *TURNError.
func (s *session) request(ctx context.Context, method stun.Method, attrs ...stun.Setter) (*stun.Message, error) {
	return s.finish(ctx, nil, s.link.rto(), false, method, attrs)
}

// probe is a request that is sent again at a steady pace.
func (s *session) probe(ctx context.Context, method stun.Method, attrs ...stun.Setter) (*stun.Message, error) {
	return s.finish(ctx, nil, probeEvery, true, method, attrs)
}

// begin sends a request, which finish brings to its end.
func (s *session) begin(method stun.Method, attrs []stun.Setter) (*transaction, error) {
	m, key, err := s.build(method, attrs)
	if err != nil {
		return nil, err
	}
	return s.link.begin(m, key)
}

// finish waits for the answer of t, or of a request that it begins if t is nil, and goes on until it is one to believe.
func (s *session) finish(ctx context.Context, t *transaction, pause time.Duration, steady bool, method stun.Method, attrs []stun.Setter) (*stun.Message, error) {
	asked := false // for the credential, in answer to a request of this call
	for try := 0; ; try++ {
		if t == nil {
			var err error
			if t, err = s.begin(method, attrs); err != nil {
				return nil, err
			}
		}
		m, err := s.link.await(ctx, t, pause, steady)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		if m.Type.Class == stun.ClassSuccessResponse {
			return m, nil
		}
		e := turnError(m)
		again := e.Code == codeStaleNonce || e.Code == codeUnauthorized && !asked
		if !again || try == maxChallenges {
			return nil, e
		}
		c, err := s.challengeIn(m)
		if err != nil {
			return nil, fmt.Errorf("%w, and %w", e, err)
		}
		asked = asked || e.Code == codeUnauthorized
		s.challenged(c)
		t = nil
	}
}

// challengeIn reads realm and nonce of a 401 or 438.
func (s *session) challengeIn(m *stun.Message) (challenge, error) {
	var realm stun.Realm
	var nonce stun.Nonce
	if err := nonce.GetFrom(m); err != nil || len(nonce) == 0 || len(nonce) > maxText {
		return challenge{}, errors.New("it brought no nonce")
	}
	if err := realm.GetFrom(m); err != nil || len(realm) == 0 {
		s.mu.Lock()
		realm = stun.Realm(s.ch.realm)
		s.mu.Unlock()
	}
	if len(realm) == 0 || len(realm) > maxText {
		return challenge{}, errors.New("it brought no realm")
	}
	return challenge{string(realm), string(nonce)}, nil
}

// padding makes a question as long as its answer: relay peers answer strangers sparingly when it is longer.
const padding = paddingText("p2psip, seen as whom?")

// paddingText is what a SOFTWARE attribute says.
type paddingText string

// AddTo implements stun.Setter.
func (s paddingText) AddTo(m *stun.Message) error { return stun.NewSoftware(string(s)).AddTo(m) }

// binding asks for the reflexive address (RFC 8489 §2, without a credential) and measures the round trip.
func binding(ctx context.Context, l *link) (*stun.Message, error) {
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, padding, stun.Fingerprint)
	if err != nil {
		return nil, err
	}
	return l.exchange(ctx, m, nil)
}
