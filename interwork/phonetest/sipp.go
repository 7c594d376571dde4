package phonetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// SIPpConfig is a phone played by SIPp.
type SIPpConfig struct {
	AOR       string // "sip:bob@p2psip.example"
	Proxy     string // outbound proxy, "127.0.0.1:5068": where every request of the phone goes
	Transport string // "udp" (default) or "tcp"; with tcp a registration dies with its connection, see NewSIPp
	AuthUser  string // default: the user part of AOR
	Password  string // for digest; SIPp 3.6 knows MD5 only
	Params    string // parameters of the registered Contact, such as ";q=0.5"
	Port      int    // 0 finds a free one
}

// SIPp is a phone at one address that plays scenarios, one at a time.
type SIPp struct {
	t         testing.TB
	path      string
	dir       string
	cfg       SIPpConfig
	user, oid string
	port      int
	media     int
	runs      int
}

// NewSIPp prepares a phone; no program runs until a scenario is started. It skips the test if SIPp is not installed.
//
// Every scenario is a SIPp process of its own on the same port. Over UDP that is one phone to everybody else. Over TCP the
// connection of a registration ends with the scenario, so what waits for calls has to be reachable at its contact.
func NewSIPp(t testing.TB, cfg SIPpConfig) *SIPp {
	t.Helper()
	s := &SIPp{t: t, path: Need(t, "sipp"), dir: t.TempDir(), cfg: cfg, port: cfg.Port}
	if s.cfg.Transport == "" {
		s.cfg.Transport = "udp"
	}
	s.user, s.oid = splitAOR(t, cfg.AOR)
	if s.cfg.AuthUser == "" {
		s.cfg.AuthUser = s.user
	}
	if s.port == 0 {
		s.port = freePorts(t, 2)
	}
	s.media = freePorts(t, 4) // SIPp echoes RTP there and on +2
	return s
}

// Addr is where the phone sends from and listens, "127.0.0.1:40000".
func (s *SIPp) Addr() string { return net.JoinHostPort(phoneIP, strconv.Itoa(s.port)) }

// Register registers the phone for that long and returns when the registrar has answered.
func (s *SIPp) Register(ctx context.Context, expires time.Duration) error {
	s.t.Helper()
	return s.Start(Register{Expires: expires}).Wait(ctx)
}

// Unregister takes the phone's contact back.
func (s *SIPp) Unregister(ctx context.Context) error {
	s.t.Helper()
	return s.Start(Register{}).Wait(ctx)
}

// Run is one scenario being played.
type Run struct {
	name    string
	proc    *process
	log     *messageLog
	readers chan struct{} // closed when log is complete
}

// Start plays sc and returns as soon as SIPp has bound its port, so that a call made now reaches it. Errors of that are
// fatal to the test. The run is ended when the test ends.
func (s *SIPp) Start(sc Scenario) *Run {
	s.t.Helper()
	r, err := s.start(sc)
	if err != nil {
		s.t.Fatalf("SIPp %s: %v", s.cfg.AOR, err)
	}
	return r
}

func (s *SIPp) start(sc Scenario) (*Run, error) {
	template, _ := sc.script()
	xml, err := render(sc, script{
		"AOR": s.cfg.AOR, "User": s.user, "OID": s.oid, "Transport": s.cfg.Transport,
		"AuthUser": s.cfg.AuthUser, "Password": s.cfg.Password, "ContactParams": s.cfg.Params,
	})
	if err != nil {
		return nil, err
	}
	s.runs++
	file := filepath.Join(s.dir, fmt.Sprintf("%d-%s", s.runs, template))
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		return nil, err
	}
	// SIPp writes its message and error logs to pipes: nothing has to be polled.
	msgR, msgW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer msgW.Close()

	run := &Run{name: s.cfg.AOR + " " + template, log: newMessageLog(), readers: make(chan struct{})}
	out := &tail{}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("==== SIPp %s, messages:\n%s---- screen:\n%s\n==== end of %s", run.name, run.log, lastScreen(out.String()), run.name)
		}
	})
	mode := map[string]string{"udp": "u1", "tcp": "t1"}[s.cfg.Transport]
	args := []string{s.cfg.Proxy, "-sf", file, "-t", mode,
		"-i", phoneIP, "-bind_local", "-p", strconv.Itoa(s.port), "-ci", phoneIP,
		"-mi", phoneIP, "-mp", strconv.Itoa(s.media), "-rtp_echo",
		"-m", "1", "-l", "1", "-nostdin", "-skip_rlimit", "-auth_uri", authURI(sc, s.oid),
		"-timeout", strconv.Itoa(int(Life / time.Second)), "-timeout_error",
		"-trace_msg", "-message_file", "/dev/fd/3", "-trace_err", "-error_file", "/dev/stderr",
	}
	run.proc, err = startProcess(s.t, out, s.dir, s.path, []*os.File{msgW}, args...)
	if err != nil {
		msgR.Close()
		return nil, err
	}
	go func() {
		defer close(run.readers)
		defer msgR.Close()
		run.log.read(msgR)
	}()
	s.t.Cleanup(func() { run.proc.stop(); <-run.readers })
	if !sc.server() {
		return run, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return run, waitBound(ctx, s.cfg.Transport, s.port, run.proc.done)
}

// authURI is what the digest is computed over, without the scheme, which SIPp adds: the Request-URI.
func authURI(sc Scenario, oid string) string {
	_, v := sc.script()
	if to, ok := v["To"]; ok {
		return strings.TrimPrefix(to, "sip:")
	}
	return oid
}

// WaitReceived returns the first message received that is what: "BYE", "180", "200 INVITE" (see Message.Is).
func (r *Run) WaitReceived(ctx context.Context, what string) (Message, error) {
	return r.wait(ctx, 1, what, false)
}

// WaitSent returns the first message sent that is what.
func (r *Run) WaitSent(ctx context.Context, what string) (Message, error) {
	return r.wait(ctx, 1, what, true)
}

// WaitNth returns the n-th message, from 1, sent or received, that is what; retransmissions count.
func (r *Run) WaitNth(ctx context.Context, n int, what string, sent bool) (Message, error) {
	return r.wait(ctx, n, what, sent)
}

func (r *Run) wait(ctx context.Context, n int, what string, sent bool) (Message, error) {
	m, err := r.log.wait(ctx, n, func(m Message) bool { return m.Sent == sent && m.Is(what) })
	if err != nil {
		return m, fmt.Errorf("SIPp %s: wait for %s: %w", r.name, what, err)
	}
	return m, nil
}

// Messages are those sent and received so far.
func (r *Run) Messages() []Message {
	all, _, _ := r.log.snapshot()
	return all
}

// Done is closed when the run has ended.
func (r *Run) Done() <-chan struct{} { return r.proc.done }

// Stop ends the run whatever it is doing, as a phone that loses its power does.
func (r *Run) Stop() { r.proc.kill(); <-r.readers }

// Wait returns when the scenario has come to its end: nil if it went as written, else what SIPp says against it.
func (r *Run) Wait(ctx context.Context) error {
	select {
	case <-r.proc.done:
	case <-ctx.Done():
		return fmt.Errorf("SIPp %s has not ended: %w; so far:\n%s", r.name, context.Cause(ctx), r.log)
	}
	<-r.readers
	out := r.proc.log.String()
	ok, failed := countCalls(out)
	switch code := r.proc.exitCode(); {
	case code == 0 && ok == 1 && failed == 0:
		return nil
	case code == 99:
		return fmt.Errorf("SIPp %s: no call took place", r.name)
	default:
		return fmt.Errorf("SIPp %s: exit code %d, %d good and %d failed calls: %s", r.name, code, ok, failed, complaint(out))
	}
}

var (
	goodCalls   = regexp.MustCompile(`Successful call\s*\|\s*\d+\s*\|\s*(\d+)`)
	failedCalls = regexp.MustCompile(`Failed call\s*\|\s*\d+\s*\|\s*(\d+)`)
	complained  = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d[^\n]*: (.*)$`)
)

// countCalls reads the last statistics screen.
func countCalls(screen string) (ok, failed int) {
	last := func(re *regexp.Regexp) int {
		all := re.FindAllStringSubmatch(screen, -1)
		if len(all) == 0 {
			return 0
		}
		n, _ := strconv.Atoi(all[len(all)-1][1])
		return n
	}
	return last(goodCalls), last(failedCalls)
}

// complaint is what SIPp wrote to its error log: its first line says most.
func complaint(screen string) string {
	m := complained.FindStringSubmatch(screen)
	if m == nil {
		return strings.TrimSpace(lastScreen(screen))
	}
	return strings.TrimSpace(m[1])
}

// lastScreen is what SIPp printed in the end.
func lastScreen(s string) string {
	if i := strings.LastIndex(s, "--- Scenario Screen"); i >= 0 {
		return s[i:]
	}
	return s
}

// splitAOR cuts "sip:user@host".
func splitAOR(t testing.TB, aor string) (user, host string) {
	t.Helper()
	user, host, ok := strings.Cut(strings.TrimPrefix(aor, "sip:"), "@")
	if !ok || !strings.HasPrefix(aor, "sip:") || user == "" || host == "" {
		t.Fatalf("%q is no address of record such as sip:bob@p2psip.example", aor)
	}
	return user, host
}
