package dnsreg

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// ErrKeyFile: a file holds no key.
var ErrKeyFile = errors.New("no key as tsig-keygen and keymgr write it")

var (
	bindKey   = regexp.MustCompile(`^\s*key\s+"?([A-Za-z0-9._-]+)"?\s*\{\s*algorithm\s+"?([A-Za-z0-9-]+)"?\s*;\s*secret\s+"?([A-Za-z0-9+/=]+)"?\s*;\s*\}\s*;?\s*$`)
	keyRemark = regexp.MustCompile(`(?m)(#|//).*$`)
)

// ParseKey reads a TSIG key as tsig-keygen writes it, key "NAME" { algorithm hmac-sha256; secret "…"; };, or in one line as dig and
// kdig take it: hmac-sha256:NAME:SECRET.
func ParseKey(text string) (Key, error) {
	var k Key
	if f := strings.Split(strings.TrimSpace(text), ":"); len(f) == 3 && !strings.ContainsAny(text, "{}") {
		k = Key{Algorithm: f[0], Name: f[1], Secret: f[2]}
	} else if m := bindKey.FindStringSubmatch(keyRemark.ReplaceAllString(text, "")); m != nil {
		k = Key{Name: m[1], Algorithm: m[2], Secret: m[3]}
	} else {
		return Key{}, ErrKeyFile
	}
	k.Algorithm = strings.ToLower(k.Algorithm)
	if _, err := base64.StdEncoding.DecodeString(k.Secret); err != nil || k.Secret == "" {
		return Key{}, fmt.Errorf("%w: the secret is not base64", ErrKeyFile)
	}
	return k, nil
}
