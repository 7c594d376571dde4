package edge

import (
	"crypto/rand"
	"strings"
)

// passwordAlphabet has 31 characters that are not mistaken for one another when read aloud or typed on a phone's keypad:
// no 0 and o, no 1, l and i.
const passwordAlphabet = "23456789abcdefghjkmnpqrstuvwxyz"

const (
	passwordGroups = 5
	passwordGroup  = 4
)

// NewPassword makes a password for a phone: five groups of four characters such as "k7dq-29fm-hh3x-ptbz-c4wn", 99 bits,
// which can be guessed neither over the network nor from a stolen users.json.
func NewPassword() string {
	var b strings.Builder
	buf := make([]byte, 1)
	for g := range passwordGroups {
		if g > 0 {
			b.WriteByte('-')
		}
		for n := 0; n < passwordGroup; {
			rand.Read(buf) // does not fail, see crypto/rand
			// Five bits, and those that name no character drawn again: every character equally likely.
			if i := int(buf[0] & 31); i < len(passwordAlphabet) {
				b.WriteByte(passwordAlphabet[i])
				n++
			}
		}
	}
	return b.String()
}
