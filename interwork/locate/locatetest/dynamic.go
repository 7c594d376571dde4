package locatetest

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"p2psip/interwork/phonetest"
)

// TSIG is a key that a dynamic zone may be changed with. Secret is base64, Algorithm as in "hmac-sha256".
type TSIG struct{ Name, Algorithm, Secret string }

// Dynamic starts a primary name server whose zones may be changed by dynamic update (RFC 2136).
type Dynamic func(t testing.TB, zones map[string]string, keys ...TSIG) *Server

// Dynamics gives the name servers that are known here, by name.
func Dynamics() map[string]Dynamic {
	return map[string]Dynamic{"BIND": StartDynamicBIND, "Knot": StartKnot}
}

// StartDynamicBIND runs named, whose zones the holders of the keys may change and transfer.
func StartDynamicBIND(t testing.TB, zones map[string]string, keys ...TSIG) *Server {
	t.Helper()
	path := phonetest.Need(t, "named")
	dir := t.TempDir()
	var b, allow strings.Builder
	at := phonetest.FreePort(t, "127.0.0.1")
	host, port, addr := at.Addr().String(), strconv.Itoa(int(at.Port())), at.String()
	for _, k := range keys {
		fmt.Fprintf(&b, "key %q { algorithm %s; secret %q; };\n", k.Name, k.Algorithm, k.Secret)
		fmt.Fprintf(&allow, "key %q; ", k.Name)
	}
	fmt.Fprintf(&b, `options {
	directory "%s"; listen-on port %s { %s; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; notify no; session-keyfile none; pid-file none;
};
controls { };
logging { channel all { stderr; severity info; }; category default { all; }; category update { all; }; category security { all; }; };
`, dir, port, host)
	for domain, text := range zones {
		fmt.Fprintf(&b, "zone %q { type primary; file %q; allow-update { %s }; };\n", domain, domain+".zone", allow.String())
		write(t, dir, domain+".zone", text)
	}
	write(t, dir, "named.conf", b.String())
	s := &Server{Addr: addr, t: t, dir: dir}
	s.run("\nrunning\n", path, "-f", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	return s
}

// StartKnot runs knotd, whose zones the holders of the keys may change.
func StartKnot(t testing.TB, zones map[string]string, keys ...TSIG) *Server {
	t.Helper()
	path := phonetest.Need(t, "knotd")
	dir := t.TempDir()
	var b strings.Builder
	at := phonetest.FreePort(t, "127.0.0.1")
	host, port, addr := at.Addr().String(), strconv.Itoa(int(at.Port())), at.String()
	fmt.Fprintf(&b, "server:\n  rundir: %q\n  listen: %s@%s\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n", dir, host, port)
	fmt.Fprintf(&b, "log:\n  - target: stderr\n    any: info\ndatabase:\n  storage: %q\n  journal-db-max-size: 20M\n", dir)
	var ids []string
	b.WriteString("key:\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "  - id: %s\n    algorithm: %s\n    secret: %s\n", k.Name, k.Algorithm, k.Secret)
		ids = append(ids, k.Name)
	}
	fmt.Fprintf(&b, "acl:\n  - id: keys\n    key: [%s]\n    action: [update, transfer]\n", strings.Join(ids, ", "))
	fmt.Fprintf(&b, "template:\n  - id: default\n    storage: %q\n    file: \"%%s.zone\"\n    acl: keys\n    zonefile-sync: -1\n    journal-content: changes\nzone:\n", dir)
	for domain, text := range zones {
		fmt.Fprintf(&b, "  - domain: %s\n", domain)
		write(t, dir, domain+".zone", text)
	}
	write(t, dir, "knot.conf", b.String())
	s := &Server{Addr: addr, t: t, dir: dir}
	s.run("server started", path, "-c", filepath.Join(dir, "knot.conf"))
	return s
}
