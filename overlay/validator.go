package overlay

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	record "github.com/libp2p/go-libp2p-record"
)

// userNamespace is the first component of the DHT key of a user routing record.
const userNamespace = "user"

var keyEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// userKey gives the DHT key of a user: "/user/" and the base-32 SHA-256 of the canonical URI.
func userKey(a AOR) string {
	h := sha256.Sum256([]byte(a.String()))
	return "/" + userNamespace + "/" + strings.ToLower(keyEncoding.EncodeToString(h[:]))
}

// userValidator is what every node of the overlay applies to every user routing record, whether it is asked to store it
// or got it as an answer.
type userValidator struct{ v *verifier }

var _ record.Validator = userValidator{}

// Validate refuses a value that is not a well-formed, current and properly signed record of the user the key stands for.
func (u userValidator) Validate(key string, value []byte) error {
	es, err := u.v.record(value, false)
	if err != nil {
		return err
	}
	if userKey(es[0].aor) != key {
		return fmt.Errorf("%w: the record of %s is stored under another key", ErrBadRecord, es[0].aor)
	}
	return nil
}

// Select picks the newest of several valid values: one that tells something the others do not. Between values that both
// do, such as the records of two phones that registered at the same moment at two nodes, it takes the first; the store
// then merges the two, so which one it was does not matter. An equal value never replaces what is there, so a replayed
// record is refused.
func (u userValidator) Select(_ string, values [][]byte) (int, error) {
	best, bestAt := entries(nil), -1
	for i, b := range values {
		es, err := u.v.record(b, true)
		if err != nil {
			continue
		}
		if bestAt < 0 || !best.adds(es) {
			best, bestAt = es, i
		}
	}
	if bestAt < 0 {
		return 0, errors.New("none of the values is a valid record")
	}
	return bestAt, nil
}
