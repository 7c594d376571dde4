package credential

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"p2psip/overlay"
)

// DefaultLifetime is how long a credential is good for new allocations: long enough that a member asks a relay peer once an
// hour, short enough that one who is no longer a member is out soon.
const DefaultLifetime = time.Hour

// Secret is what a relay peer makes passwords with, 32 bytes that nobody else knows.
type Secret struct{ key [32]byte }

// NewSecret derives a Secret from a secret of the node that serves other purposes too.
func NewSecret(base []byte) Secret {
	m := hmac.New(sha256.New, base)
	m.Write([]byte("p2psip turn credential 1"))
	var s Secret
	m.Sum(s.key[:0])
	return s
}

// Issue makes the user name and the password of a member, good until expires.
func (s Secret) Issue(member overlay.NodeID, expires time.Time) (username, password string) {
	username = strconv.FormatInt(expires.Unix(), 10) + ":" + member.String()
	return username, s.Password(username)
}

// Password gives the password that belongs to a user name.
func (s Secret) Password(username string) string {
	m := hmac.New(sha256.New, s.key[:])
	m.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// Key gives the key of the long-term credential mechanism (RFC 8489 §9.2.2) for a user name.
func (s Secret) Key(username, realm string) []byte {
	k := md5.Sum([]byte(username + ":" + realm + ":" + s.Password(username)))
	return k[:]
}

// ErrBadUsername: a user name that no relay peer has issued.
var ErrBadUsername = errors.New("not a user name of a relay peer")

// ParseUsername reads a user name: until when a new allocation may be asked for with it, and whose it is, in text form. That
// it was issued shows only the password.
func ParseUsername(s string) (expires time.Time, member string, err error) {
	at, member, ok := strings.Cut(s, ":")
	n, e := strconv.ParseUint(at, 10, 40)
	if !ok || e != nil || member == "" || len(s) > maxName || !printable(s) {
		return time.Time{}, "", fmt.Errorf("%w: %.80q", ErrBadUsername, s)
	}
	return time.Unix(int64(n), 0), member, nil
}
