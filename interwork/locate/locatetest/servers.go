// Package locatetest runs name servers that nobody of this project wrote, for tests: BIND, which owns zones, and Unbound,
// which asks it on behalf of others and keeps the answers.
//
//	bind := locatetest.StartBIND(t, map[string]string{"example.com": zoneFile})
//	cache := locatetest.StartUnbound(t, map[string]string{"example.com": bind.Addr})
//	… ask cache.Addr …
//	bind.Queries()     // "SRV _sip._udp.example.com", in the order of arrival; " tcp" behind those over TCP
//
// They listen on 127.0.0.1, keep everything in a directory of the test and end with it, after three minutes at the latest. A
// test is skipped if they are not installed, and fails instead with P2PSIP_REQUIRE_PEERS=1.
package locatetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"p2psip/interwork/phonetest"
)

const (
	life  = "180" // seconds a name server lives at most, even if the test binary is killed
	start = 20 * time.Second
)

// Server is a running name server.
type Server struct {
	Addr string // address:port, UDP and TCP

	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the program is reaped
}

// StartBIND runs named with the given zones: the text of a zone file for each domain.
func StartBIND(t testing.TB, zones map[string]string) *Server {
	t.Helper()
	path := phonetest.Need(t, "named")
	dir := t.TempDir()
	var b strings.Builder
	at := phonetest.FreePort(t, "127.0.0.1")
	host, port, addr := at.Addr().String(), strconv.Itoa(int(at.Port())), at.String()
	fmt.Fprintf(&b, `options {
	directory "%s"; listen-on port %s { %s; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; notify no; minimal-responses no; session-keyfile none; pid-file none;
	querylog yes;
};
controls { };
logging {
	channel all { stderr; severity info; };
	channel asked { file "queries.log"; severity info; };
	category default { all; };
	category queries { asked; };
};
`, dir, port, host)
	for domain, text := range zones {
		fmt.Fprintf(&b, "zone %q { type primary; file %q; };\n", domain, domain+".zone")
		write(t, dir, domain+".zone", text)
	}
	write(t, dir, "named.conf", b.String())
	s := &Server{Addr: addr, t: t, dir: dir}
	s.run("\nrunning\n", path, "-f", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	return s
}

// StartUnbound runs unbound, which asks the given address:port for each domain and knows nothing else.
func StartUnbound(t testing.TB, domains map[string]string) *Server {
	t.Helper()
	path := phonetest.Need(t, "unbound")
	dir := t.TempDir()
	var b strings.Builder
	at := phonetest.FreePort(t, "127.0.0.1")
	host, port, addr := at.Addr().String(), strconv.Itoa(int(at.Port())), at.String()
	fmt.Fprintf(&b, `server:
	interface: %s@%s
	do-ip6: no
	do-daemonize: no
	chroot: ""
	username: ""
	directory: "%s"
	pidfile: ""
	use-syslog: no
	logfile: ""
	verbosity: 1
	num-threads: 1
	do-not-query-localhost: no
	access-control: 127.0.0.0/8 allow
	module-config: "iterator"
	qname-minimisation: no
	local-zone: "test." nodefault
remote-control:
	control-enable: no
forward-zone:
	name: "."
	forward-addr: 127.0.0.1@9
`, host, port, dir)
	for domain, at := range domains {
		h, p, err := net.SplitHostPort(at)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "stub-zone:\n\tname: %q\n\tstub-addr: %s@%s\n", domain, h, p)
	}
	write(t, dir, "unbound.conf", b.String())
	s := &Server{Addr: addr, t: t, dir: dir}
	s.run("start of service", path, "-d", "-p", "-c", filepath.Join(dir, "unbound.conf"))
	return s
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run starts the program and returns when it says that it is ready.
func (s *Server) run(ready string, path string, args ...string) {
	s.t.Helper()
	var log bytes.Buffer
	var mu sync.Mutex // guards log
	out, in, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command("timeout", append([]string{"-k", "2", life, path}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = in, in
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = s.cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		s.t.Fatalf("start %s: %v", path, err)
	}
	s.done = make(chan struct{})
	up := make(chan struct{})
	go func() {
		defer close(s.done)
		defer out.Close()
		seen := false
		lines := bufio.NewReader(io.LimitReader(out, 4<<20))
		for {
			line, err := lines.ReadString('\n')
			mu.Lock()
			log.WriteString(line)
			mu.Unlock()
			if !seen && strings.Contains("\n"+line, ready) {
				seen = true
				close(up)
			}
			if err != nil {
				break
			}
		}
		s.cmd.Wait()
	}()
	s.t.Cleanup(func() {
		s.Stop()
		if s.t.Failed() {
			mu.Lock()
			defer mu.Unlock()
			s.t.Logf("==== %s said:\n%s", filepath.Base(path), &log)
		}
	})
	select {
	case <-up:
	case <-s.done:
		s.t.Fatalf("%s ended before it was ready", path)
	case <-time.After(start):
		s.t.Fatalf("%s is not ready after %v", path, start)
	}
}

// Stop ends the server. It may be called more than once.
func (s *Server) Stop() {
	select {
	case <-s.done:
		return
	default:
	}
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM) // not reaped yet, so the number is its own
	select {
	case <-s.done:
	case <-time.After(3 * time.Second):
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.done
	}
}

// query is in a line of BIND's log: "client @0x… 127.0.0.1#4711 (a.test): query: a.test IN SRV +E(0)TK (127.0.0.1)". A T
// among the flags is for TCP.
var query = regexp.MustCompile(`query: (\S+) IN (\S+) (\S+) \(`)

// Queries are the questions that BIND was asked so far; it writes each down before it answers.
func (s *Server) Queries() []string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "queries.log"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	var list []string
	for _, m := range query.FindAllStringSubmatch(string(b), -1) {
		text := m[2] + " " + strings.ToLower(m[1])
		if strings.Contains(m[3], "T") {
			text += " tcp"
		}
		list = append(list, text)
	}
	return list
}
