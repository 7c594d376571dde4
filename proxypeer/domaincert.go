package proxypeer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"p2psip/overlay"
)

// Domain certificates (RFC 5922): the certificate of a SIP server says for which domain it speaks by a subject alternative
// name that is the URI "sip:domain", or, where it has none of those, by a DNS name. The subject counts for nothing, nor
// does a wildcard (§7.2).

// Identities gives the SIP domains that a certificate speaks for (RFC 5922 §7.1), in lower case.
func Identities(c *x509.Certificate) []string {
	var out []string
	for _, u := range c.URIs {
		if !strings.EqualFold(u.Scheme, "sip") {
			continue
		}
		host := u.Opaque // "sip:example.com" has no authority part
		if host == "" {
			host = u.Host
		}
		if host != "" && !strings.ContainsAny(host, "@;?") {
			out = append(out, strings.ToLower(strings.TrimSuffix(host, ".")))
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, n := range c.DNSNames {
		out = append(out, strings.ToLower(strings.TrimSuffix(n, ".")))
	}
	return out
}

// SpeaksFor says whether a certificate speaks for a domain. Wildcards are compared as they stand. A numeric host is named
// by an IP address in the certificate.
func SpeaksFor(c *x509.Certificate, domain string) bool {
	if ip, err := netip.ParseAddr(strings.Trim(domain, "[]")); err == nil {
		for _, a := range c.IPAddresses {
			if b, ok := netip.AddrFromSlice(a); ok && b.Unmap() == ip.Unmap() {
				return true
			}
		}
		return false
	}
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	for _, id := range Identities(c) {
		if id == domain {
			return true
		}
	}
	return false
}

// subjects writes the names that the certificate of a hop may bear into one: those of the policy, or the domain's.
func subjects(domain string, named []string) string {
	if len(named) == 0 {
		return domain
	}
	return strings.Join(named, " ")
}

// clientTLS gives the configuration for a connection to a server that has to speak for one of the names, separated by blanks.
func (p *Peer) clientTLS(names string) *tls.Config {
	c := &tls.Config{}
	if p.cfg.TLS != nil {
		c = p.cfg.TLS.Clone()
	}
	list := strings.Fields(names)
	if len(list) > 0 {
		c.ServerName = list[0]
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	roots := c.RootCAs
	c.InsecureSkipVerify = true // crypto/tls knows no SIP identities; VerifyConnection does all of it
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the server shows no certificate")
		}
		if err := verify(s.PeerCertificates, roots, x509.ExtKeyUsageServerAuth); err != nil {
			return err
		}
		for _, n := range list {
			if SpeaksFor(s.PeerCertificates[0], n) {
				return nil
			}
		}
		return fmt.Errorf("the server's certificate is for %s, not for %s", strings.Join(Identities(s.PeerCertificates[0]), ", "), names)
	}
	return c
}

func verify(chain []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage) error {
	mid := x509.NewCertPool()
	for _, c := range chain[1:] {
		mid.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: mid, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// ServerTLS gives the configuration of a TLS socket: the domain certificate, and a look at the far side's if it has one,
// which has to be good then.
func ServerTLS(cert tls.Certificate, roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			return verify(s.PeerCertificates, roots, x509.ExtKeyUsageClientAuth)
		},
	}
}

// SelfSigned makes a domain certificate on the fly, for tests and for overlays that nobody outside has to believe.
func SelfSigned(oid overlay.ID, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: string(oid)}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		DNSNames: []string{string(oid)}, URIs: []*url.URL{{Scheme: "sip", Opaque: string(oid)}},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
