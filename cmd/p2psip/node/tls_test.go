package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"p2psip/interwork/locate/locatetest"
	"p2psip/interwork/phone"
	"p2psip/interwork/phonetest"
	"p2psip/overlay"
	"p2psip/proxypeer"
	"p2psip/proxypeer/policy"
)

// certificates is an authority and what it has signed, as files.
type certificates struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &certificates{t: t, dir: t.TempDir(), key: key}
	c.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c.cert, c.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c.write("authority.pem", "CERTIFICATE", der)
	return c
}

func (c *certificates) write(name, kind string, der []byte) {
	c.t.Helper()
	if err := os.WriteFile(c.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *certificates) path(name string) string { return filepath.Join(c.dir, name) }

// issue makes the domain certificate of a domain and its key, as <domain>.pem and <domain>.key.
func (c *certificates) issue(domain string) (cert, key string) {
	c.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{{Scheme: "sip", Opaque: domain}}, DNSNames: []string{domain}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, c.cert, k.Public(), c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(domain+".pem", "CERTIFICATE", der)
	if der, err = x509.MarshalPKCS8PrivateKey(k); err != nil {
		c.t.Fatal(err)
	}
	c.write(domain+".key", "PRIVATE KEY", der)
	return c.path(domain + ".pem"), c.path(domain + ".key")
}

// tlsProfiles are Kamailio's, of its sockets and of its connections to others.
const tlsProfiles = `[server:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
certificate = %[1]s
private_key = %[2]s
ca_list = %[5]s
[client:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
certificate = %[1]s
private_key = %[2]s
ca_list = %[5]s
[server:%[6]s]
method = TLSv1.2+
verify_certificate = no
require_certificate = no
certificate = %[3]s
private_key = %[4]s
ca_list = %[5]s
`

// TestTLS is calls over TLS, both ways, between an overlay and Kamailio, where each side demands the other's domain certificate
// (RFC 5922), found by NAPTR and _sips._tcp. A server that shows another domain's certificate is not spoken to, nor is a client
// that shows one listened to, and either is told why.
func TestTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	path := phonetest.Need(t, "kamailio")
	module := ""
	for _, dir := range []string{"/usr/lib/*/kamailio/modules", "/usr/lib64/kamailio/modules", filepath.Join(filepath.Dir(filepath.Dir(path)), "lib*/kamailio/modules")} {
		if found, _ := filepath.Glob(filepath.Join(dir, "tls.so")); len(found) > 0 {
			module = found[0]
		}
	}
	if module == "" {
		const how = "Kamailio is here without TLS: apt-get install kamailio-tls-modules"
		if os.Getenv(phonetest.RequirePeers) == "1" {
			t.Fatal(how)
		}
		t.Skip(how)
	}

	pki := newCertificates(t)
	providerCert, providerKey := pki.issue("provider.example")
	wrongCert, wrongKey := pki.issue("other.example")
	ourCert, ourKey := pki.issue(testID)
	phones, secure, wrong, pp := phonetest.FreePort(t, "127.0.0.1"), phonetest.FreePort(t, "127.0.0.1"), phonetest.FreePort(t, "127.0.0.1"), phonetest.FreePort(t, "127.0.0.31")
	zone := func(port uint16, addr string) string {
		return fmt.Sprintf(`$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
@ A %[2]s
@ NAPTR 10 50 "s" "SIPS+D2T" "" _sips._tcp
_sips._tcp SRV 10 10 %[1]d sip
sip A %[2]s
`, port, addr)
	}
	bind := locatetest.StartBIND(t, map[string]string{
		"provider.example": zone(secure.Port(), "127.0.0.1"), "wrong.example": zone(wrong.Port(), "127.0.0.1"), testID: zone(pp.Port(), "127.0.0.31"),
	})
	out := &publicWorld{t: t, dns: bind.Addr, bind: bind, provider: phones}
	out.relay.Store(&out.dns)
	profiles := filepath.Join(pki.dir, "tls.cfg")
	if err := os.WriteFile(profiles, fmt.Appendf(nil, tlsProfiles, providerCert, providerKey, wrongCert, wrongKey, pki.path("authority.pem"), wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(providerConfig, phones)
	config = strings.Replace(config, "listen=udp:", fmt.Sprintf("enable_tls=yes\nlisten=tls:%s advertise provider.example:%d\nlisten=tls:%s\nlisten=udp:", secure, secure.Port(), wrong), 1)
	config = strings.Replace(config, `loadmodule "tm.so"`, "loadmodule \""+module+"\"\nmodparam(\"tls\", \"config\", \""+profiles+"\")\nloadmodule \"tm.so\"", 1)
	runProvider(t, config, out.relayDNS(), phones)

	u := newUniverse(t)
	log := &traceLog{}
	dir := u.homeFor(nil, overlay.RoleProxy)
	c := u.config(dir)
	server, client, err := DomainTLS(u.authority.Document().ID, ourCert, ourKey, pki.path("authority.pem"), c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenPublic("tls:"+pp.String(), server)
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(dir, policy.FileName)
	if err := os.WriteFile(rules, []byte("[default]\nrequire_tls = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ProxyPeer = &ProxyPeer{DNS: []string{bind.Addr}, Sockets: []proxypeer.Socket{s}, TLS: client, Federation: rules}
	c.Trace = trace{"pp", log}.event
	u.start(c)
	c = u.config(u.home("alice"))
	c.Trace = trace{"node", log}.event
	node := u.start(c)
	alice := u.phone(node, "alice", phone.AnswerAfter(0))
	var at seen
	carol := customer(t, phones, &at)
	ctx := testContext(t)

	// Out.
	call := talk(t, alice, "sip:carol@provider.example")
	if err := call.Hold(ctx); err != nil {
		t.Errorf("re-INVITE: %v", err)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Errorf("alice hangs up: %v", err)
	}
	ms := log.follows(t, "pp out to outside: INVITE", "pp in from outside: 200 INVITE", "pp out to outside: BYE")
	if !strings.HasPrefix(header(ms[0], "Via"), "SIP/2.0/TLS 127.0.0.31:") || !strings.Contains(header(ms[2], "Via"), "SIP/2.0/TLS") {
		t.Errorf("not over TLS:\n%s%s", ms[0], ms[2])
	}
	if q := out.asked("provider.example"); !slices.Contains(q, "NAPTR provider.example") {
		t.Errorf("the name server was asked %q", q)
	}
	// In.
	call = talk(t, carol, "sip:alice@"+testID)
	if err := call.Hangup(ctx); err != nil {
		t.Errorf("carol hangs up: %v", err)
	}
	if ms := log.follows(t, "pp in from outside: INVITE", "pp out to outside: 200 INVITE", "pp in from outside: BYE"); !strings.HasPrefix(header(ms[0], "Via"), "SIP/2.0/TLS ") {
		t.Errorf("not over TLS:\n%s", ms[0])
	}

	// A server with another domain's certificate.
	var status *phone.StatusError
	failed, err := alice.Call(ctx, "sip:carol@wrong.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = failed.Wait(ctx, phone.Answered); !errors.As(err, &status) || status.Status != 502 {
		t.Errorf("a server with another domain's certificate: %v", err)
	}
	const why = "the server's certificate is for other.example, not for wrong.example"
	if ms := log.follows(t, "node out to phone: 502 INVITE"); !strings.Contains(header(ms[0], "Warning"), why) {
		t.Errorf("the caller is not told that %s:\n%s", why, ms[0])
	}
	// A client with one, and one without any.
	pair, err := tls.LoadX509KeyPair(wrongCert, wrongKey)
	if err != nil {
		t.Fatal(err)
	}
	for what, certs := range map[string][]tls.Certificate{
		"the certificate is for other.example; provider.example has to show one for provider.example": {pair},
		"calls from provider.example come with a certificate or not at all":                           nil,
	} {
		if got := askTLS(t, ctx, pp, client, certs); !strings.HasPrefix(got, "SIP/2.0 403 ") || !strings.Contains(header(got, "Warning"), what) {
			t.Errorf("want a 403 that says that %s, got\n%s", what, got)
		}
	}
}

// header gives the first value of a header in a message as text.
func header(m, name string) string {
	for _, line := range strings.Split(m, "\r\n") {
		if n, v, ok := strings.Cut(line, ":"); ok && n == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// askTLS sends a MESSAGE from provider.example to alice and gives the answer.
func askTLS(t *testing.T, ctx context.Context, to netip.AddrPort, like *tls.Config, certs []tls.Certificate) string {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{RootCAs: like.RootCAs, ServerName: testID, Certificates: certs}}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = fmt.Fprintf(conn, "MESSAGE sip:alice@%s SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:5061;branch=z9hG4bK%d\r\nMax-Forwards: 70\r\n"+
		"From: <sip:carol@provider.example>;tag=1\r\nTo: <sip:alice@%[1]s>\r\nCall-ID: %[2]d\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n", testID, time.Now().UnixNano())
	b := make([]byte, 4000)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
