package sdp

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// Crypto is one a=crypto: keys for SRTP in the description itself (SDES, RFC 4568 §9.1).
type Crypto struct {
	Tag      int
	Suite    string // AES_CM_128_HMAC_SHA1_80 and the like
	KeySalt  string // octets, not text: master key, then master salt
	Lifetime string // "2^20" or a number; "" without
	MKI      string // octets that every packet carries; "" without
	Params   []string
}

// suites are the crypto suites that count, with the length of key and salt (RFC 4568 §6.2, RFC 6188, RFC 7714).
var suites = map[string]int{
	"AES_CM_128_HMAC_SHA1_80": 30,
	"AES_CM_128_HMAC_SHA1_32": 30,
	"AES_256_CM_HMAC_SHA1_80": 46,
	"AES_256_CM_HMAC_SHA1_32": 46,
	"AEAD_AES_128_GCM":        28,
	"AEAD_AES_256_GCM":        44,
}

// SuiteSize is the length of key and salt of a crypto suite in octets, 0 for one that is not known.
func SuiteSize(suite string) int { return suites[suite] }

// parseCrypto reads "1 AES_CM_128_HMAC_SHA1_80 inline:<base64>|2^20|1:4 <session parameters>". Of several keys only the
// first would be used to begin with, and nobody sends several; a line that has them counts as not understood, and so does
// one with a session parameter that must be understood and is not (§6.3.7: those that do not begin with "-").
func parseCrypto(v string) (c Crypto, ok bool) {
	f := strings.Fields(v)
	if len(f) < 3 {
		return c, false
	}
	tag, err := strconv.ParseUint(f[0], 10, 30)
	if err != nil || tag == 0 && len(f[0]) > 1 {
		return c, false
	}
	c.Tag, c.Suite = int(tag), strings.ToUpper(f[1])
	size := SuiteSize(c.Suite)
	if size == 0 || len(f[2]) < 7 || !strings.EqualFold(f[2][:7], "inline:") || strings.Contains(f[2], ";") {
		return Crypto{}, false
	}
	parts := strings.Split(f[2][7:], "|")
	if len(parts) > 3 {
		return Crypto{}, false
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(parts[0], "="))
	if err != nil || len(key) != size {
		return Crypto{}, false
	}
	c.KeySalt = string(key)
	for _, p := range parts[1:] {
		if !c.keyParameter(p) {
			return Crypto{}, false
		}
	}
	for _, p := range f[3:] {
		if !strings.HasPrefix(p, "-") && !strings.HasPrefix(strings.ToUpper(p), "WSH=") {
			return Crypto{}, false
		}
		c.Params = append(c.Params, p)
	}
	return c, true
}

// keyParameter reads a lifetime ("2^20", "1048576") or an MKI with its length ("1:4").
func (c *Crypto) keyParameter(p string) bool {
	value, length, mki := strings.Cut(p, ":")
	if !mki {
		digits := strings.TrimPrefix(value, "2^")
		if _, err := strconv.ParseUint(digits, 10, 64); err != nil || c.Lifetime != "" {
			return false
		}
		c.Lifetime = value
		return true
	}
	n, err1 := strconv.ParseUint(length, 10, 8)
	id, err2 := strconv.ParseUint(value, 10, 64)
	if err1 != nil || err2 != nil || n == 0 || n > 128 || c.MKI != "" || n < 8 && id>>(8*n) != 0 {
		return false
	}
	b := make([]byte, n)
	for i := len(b) - 1; i >= 0 && id > 0; i-- {
		b[i], id = byte(id), id>>8
	}
	c.MKI = string(b)
	return true
}

// String is the attribute's value.
func (c Crypto) String() string {
	s := strconv.Itoa(c.Tag) + " " + c.Suite + " inline:" + base64.StdEncoding.EncodeToString([]byte(c.KeySalt))
	if c.Lifetime != "" {
		s += "|" + c.Lifetime
	}
	if c.MKI != "" {
		var id uint64
		for i := range len(c.MKI) {
			id = id<<8 | uint64(c.MKI[i])
		}
		s += "|" + strconv.FormatUint(id, 10) + ":" + strconv.Itoa(len(c.MKI))
	}
	for _, p := range c.Params {
		s += " " + p
	}
	return s
}
