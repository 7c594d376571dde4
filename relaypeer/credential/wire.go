package credential

import (
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// On the stream, each side sends one message behind its greeting: two bytes of length (big endian) and DER.
//
//	Question ::= SEQUENCE {
//	    version   INTEGER (1) }
//
//	Answer ::= SEQUENCE {
//	    version   INTEGER (1),
//	    refused   INTEGER (0..255),             -- 0: granted; otherwise a Code, and what is granted is empty
//	    reason    UTF8String (SIZE (0..200)),   -- for people
//	    retry     INTEGER (0..86400),           -- seconds after which asking again may help, 0: not said
//	    username  UTF8String (SIZE (0..255)),
//	    password  UTF8String (SIZE (0..255)),
//	    realm     UTF8String (SIZE (0..127)),
//	    nonce     UTF8String (SIZE (0..127)),   -- to begin with; "" where the relay peer gives none
//	    lifetime  INTEGER (0..86400),           -- seconds
//	    uris      SEQUENCE (SIZE (0..8)) OF UTF8String,    -- RFC 7065, with IP addresses
//	    keys      SEQUENCE (SIZE (0..4)) OF OCTET STRING } -- SHA-256 of SubjectPublicKeyInfo, for turns:
//
// A reader passes over what follows in either SEQUENCE, so that later versions may add to them.
const (
	version = 1

	maxQuestion = 64
	maxAnswer   = 4 << 10
	maxReason   = 200
	maxName     = 255 // user name and password; RFC 8489 §14.3 allows 508
	maxRealm    = 127 // realm and nonce
	maxURIs     = 8   // as many as an advertisement has
	maxURI      = 128
	maxKeys     = 4
	keySize     = 32
	maxSeconds  = 86400
)

// ErrMalformed is wrapped by every refusal to read a message.
var ErrMalformed = errors.New("malformed")

// Grant is what a relay peer hands out.
type Grant struct {
	URIs     []string // where it serves TURN, best first; see ParseURI
	Username string
	Password string
	Realm    string
	Nonce    string        // for the first request; "" if there is none
	Lifetime time.Duration // whole seconds; a new allocation can be asked for within it
	Keys     [][]byte      // SHA-256 hashes of the public keys (DER of SubjectPublicKeyInfo) shown over TLS
}

// Code says why a relay peer refuses.
type Code int

// The codes. One that is not known is treated as CodeBusy.
const (
	CodeBusy     Code = 1 // asked too often, or too much going on: later, or another relay peer
	CodeQuota    Code = 2 // this member has used up what it may use
	CodeDraining Code = 3 // the relay peer is about to stop
	CodeNotReady Code = 4 // it is not sure yet that it can be reached
	CodeVersion  Code = 5 // it does not understand the question
)

// Refusal is a relay peer's no.
type Refusal struct {
	Code   Code
	Reason string        // for people; written by the far side
	Retry  time.Duration // when asking again may help, 0: not said
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the relay peer gives no credential: %q", r.Reason)
}

type wireQuestion struct{ Version int }

type wireAnswer struct {
	Version  int
	Refused  int
	Reason   string `asn1:"utf8"`
	Retry    int
	Username string `asn1:"utf8"`
	Password string `asn1:"utf8"`
	Realm    string `asn1:"utf8"`
	Nonce    string `asn1:"utf8"`
	Lifetime int
	URIs     []wireText
	Keys     [][]byte
}

// wireText makes the elements of a list UTF8Strings whatever is in them.
type wireText struct {
	S string `asn1:"utf8"`
}

// Ask puts the question on a stream and gives the answer: a Grant, a *Refusal as error, or what went wrong. The caller bounds
// the time with the stream's deadline, and closes it.
func Ask(s io.ReadWriter) (Grant, error) {
	if err := WriteMessage(s, wireQuestion{version}, maxQuestion); err != nil {
		return Grant{}, fmt.Errorf("asking for a credential: %w", err)
	}
	return ReadAnswer(s)
}

// ReadQuestion reads what Ask has written. The error of a question of another version is a *Refusal to be answered with.
func ReadQuestion(r io.Reader) error {
	var q wireQuestion
	if err := ReadMessage(r, &q, maxQuestion); err != nil {
		return fmt.Errorf("reading the question: %w", err)
	}
	if q.Version != version {
		return &Refusal{Code: CodeVersion, Reason: fmt.Sprintf("version %d is not known here", q.Version)}
	}
	return nil
}

// WriteGrant answers with a Grant.
func WriteGrant(w io.Writer, g Grant) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("a credential that nobody would take: %w", err)
	}
	a := wireAnswer{
		Version: version, Username: g.Username, Password: g.Password, Realm: g.Realm, Nonce: g.Nonce,
		Lifetime: int(g.Lifetime / time.Second), URIs: []wireText{}, Keys: [][]byte{},
	}
	for _, u := range g.URIs {
		a.URIs = append(a.URIs, wireText{u})
	}
	a.Keys = append(a.Keys, g.Keys...)
	return WriteMessage(w, a, maxAnswer)
}

// WriteRefusal answers with a Refusal.
func WriteRefusal(w io.Writer, r *Refusal) error {
	code := r.Code
	if code <= 0 || code > 255 {
		code = CodeBusy
	}
	return WriteMessage(w, wireAnswer{
		Version: version, Refused: int(code), Reason: clip(r.Reason, maxReason), Retry: seconds(r.Retry), URIs: []wireText{}, Keys: [][]byte{},
	}, maxAnswer)
}

// ReadAnswer reads what WriteGrant or WriteRefusal has written; a Refusal is a *Refusal as error.
func ReadAnswer(r io.Reader) (Grant, error) {
	var a wireAnswer
	if err := ReadMessage(r, &a, maxAnswer); err != nil {
		return Grant{}, fmt.Errorf("reading the answer: %w", err)
	}
	switch {
	case a.Version != version:
		return Grant{}, fmt.Errorf("%w: an answer of version %d", ErrMalformed, a.Version)
	case a.Refused < 0 || a.Refused > 255 || a.Retry < 0 || a.Retry > maxSeconds || len(a.Reason) > maxReason:
		return Grant{}, fmt.Errorf("%w: a refusal beyond all bounds", ErrMalformed)
	case a.Refused > 0:
		return Grant{}, &Refusal{Code: Code(a.Refused), Reason: a.Reason, Retry: time.Duration(a.Retry) * time.Second}
	}
	g := Grant{
		Username: a.Username, Password: a.Password, Realm: a.Realm, Nonce: a.Nonce,
		Lifetime: time.Duration(a.Lifetime) * time.Second, Keys: a.Keys,
	}
	for _, u := range a.URIs {
		g.URIs = append(g.URIs, u.S)
	}
	if err := g.check(); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// check holds a Grant to the bounds of the wire.
func (g Grant) check() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, a...)...)
	}
	for _, f := range []struct {
		what, s string
		max     int
		empty   bool
	}{{"user name", g.Username, maxName, false}, {"password", g.Password, maxName, false}, {"realm", g.Realm, maxRealm, false}, {"nonce", g.Nonce, maxRealm, true}} {
		if f.s == "" && !f.empty || len(f.s) > f.max || !printable(f.s) {
			return bad("a %s of %d bytes", f.what, len(f.s))
		}
	}
	switch {
	case g.Lifetime < time.Second || g.Lifetime > maxSeconds*time.Second:
		return bad("a lifetime of %s", g.Lifetime)
	case len(g.URIs) > maxURIs:
		return bad("%d URIs", len(g.URIs))
	case len(g.Keys) > maxKeys:
		return bad("%d keys", len(g.Keys))
	}
	for _, u := range g.URIs {
		if len(u) > maxURI {
			return bad("a URI of %d bytes", len(u))
		}
		if _, err := ParseURI(u); err != nil {
			return err
		}
	}
	for _, k := range g.Keys {
		if len(k) != keySize {
			return bad("the hash of a key of %d bytes", len(k))
		}
	}
	return nil
}

// printable says whether a text has printable ASCII only and neither quotes nor backslashes, so that it is the same inside a
// STUN attribute, a log line and a command.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return true
}

func seconds(d time.Duration) int { return int(min(max(d, 0), maxSeconds*time.Second) / time.Second) }

func clip(s string, n int) string {
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// WriteMessage writes one message of a stream between members: two bytes of length (big endian) and DER of at most limit bytes.
func WriteMessage(w io.Writer, v any, limit int) error {
	b, err := asn1.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > limit {
		return fmt.Errorf("%d bytes, %d are allowed", len(b), limit)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// ReadMessage reads what WriteMessage has written into v, a pointer; ErrMalformed if it is anything else.
func ReadMessage(r io.Reader, v any, limit int) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > limit {
		return fmt.Errorf("%w: %d bytes, %d are allowed", ErrMalformed, n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	rest, err := asn1.Unmarshal(b, v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes follow it", ErrMalformed, len(rest))
	}
	return nil
}
