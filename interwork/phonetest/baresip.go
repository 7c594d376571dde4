package phonetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"p2psip/interwork/phone/audio"
)

// BaresipConfig is a phone played by baresip.
type BaresipConfig struct {
	AOR       string        // "sip:alice@p2psip.example"
	Proxy     string        // outbound proxy, "127.0.0.1:5063"
	Transport string        // "udp" (default) or "tcp"
	Expires   time.Duration // asked for when registering; default one minute
	AuthUser  string        // default: the user part of AOR
	Password  string        // for digest; baresip 1.0 knows MD5 only
	ToneHz    float64       // the tone it plays into every call; default DefaultToneHz
	Sound     []int16       // played instead, again and again, as audio.Rate samples a second
	Codecs    string        // of audio, such as "PCMA,PCMU"; default PCMU
	Answer    bool          // answers calls by itself, at once
	Params    string        // further account parameters, such as ";regq=0.5"
	Modules   []string      // further modules, such as "srtp"; what an account does with them is in Params
	Instance  bool          // it has a +sip.instance
	OnePort   bool          // RTCP on the port of RTP (RFC 5761)
	Port      int           // 0 finds a free one
}

// poll is how often a running phone is asked for what it does not tell by itself.
const poll = 50 * time.Millisecond

// DefaultToneHz is what a baresip phone plays if nothing else is said.
const DefaultToneHz = 440

// Baresip is a running phone. Its methods are for the goroutine of the test. One call at a time: baresip's commands act
// on the call it holds for the current one.
type Baresip struct {
	t    testing.TB
	cfg  BaresipConfig
	dir  string
	port int
	proc *process
	log  *tail
	ctl  *control
	has  bool // the account is known to the running phone
	seen int  // calls that arrived before this event were given out
}

// StartBaresip starts the phone and returns when it takes commands; it sends nothing before it is asked to. It skips the
// test if baresip is not installed; other troubles are fatal to the test.
func StartBaresip(t testing.TB, cfg BaresipConfig) *Baresip {
	t.Helper()
	path := Need(t, "baresip")
	b := &Baresip{t: t, cfg: cfg, dir: t.TempDir(), port: cfg.Port, log: &tail{}}
	user, _ := splitAOR(t, cfg.AOR)
	if b.cfg.AuthUser == "" {
		b.cfg.AuthUser = user
	}
	if b.cfg.Transport == "" {
		b.cfg.Transport = "udp"
	}
	if b.cfg.Expires == 0 {
		b.cfg.Expires = time.Minute
	}
	if b.cfg.Codecs == "" {
		b.cfg.Codecs = "PCMU"
	}
	if b.cfg.ToneHz == 0 {
		b.cfg.ToneHz = DefaultToneHz
	}
	ports := freePorts(t, 4) // baresip takes the SIP port and, for TLS, the next
	if b.port == 0 {
		b.port = ports
	}
	if err := b.start(path, ports+2); err != nil {
		t.Fatalf("baresip %s: %v", cfg.AOR, err)
	}
	return b
}

func (b *Baresip) start(path string, ctlPort int) error {
	modules, err := modulePath()
	if err != nil {
		return err
	}
	if err := b.writeConfig(modules, ctlPort); err != nil {
		return err
	}
	b.log.showOnFailure(b.t, "baresip "+b.cfg.AOR)
	b.proc, err = startProcess(b.t, b.log, b.dir, path, nil,
		"-4", "-v", "-s", "-f", b.dir, "-t", strconv.Itoa(int(Life/time.Second)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := waitBound(ctx, "tcp", ctlPort, b.proc.done); err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(phoneIP, strconv.Itoa(ctlPort)))
	if err != nil {
		return fmt.Errorf("reach its control socket: %w", err)
	}
	b.ctl = newControl(conn)
	b.t.Cleanup(b.Stop)
	// The modules are loaded before the main loop runs; an answer shows that it does.
	_, err = b.ctl.command(ctx, "reginfo", "")
	return err
}

// modulePath finds where the distribution puts baresip's modules.
func modulePath() (string, error) {
	for _, pattern := range []string{"/usr/lib/baresip/modules", "/usr/lib/*/baresip/modules", "/usr/local/lib/baresip/modules"} {
		found, _ := filepath.Glob(filepath.Join(pattern, "ctrl_tcp.so"))
		if len(found) > 0 {
			return filepath.Dir(found[0]), nil
		}
	}
	return "", errors.New("found no baresip module ctrl_tcp.so under /usr/lib")
}

// writeConfig makes a phone without hardware that keeps to loopback: it plays a tone from a file, listens into a bridge
// with no other end, and records both directions. The name server is a port nobody listens on.
func (b *Baresip) writeConfig(modules string, ctlPort int) error {
	tone := filepath.Join(b.dir, "tone.wav")
	lines := []string{
		"sip_listen " + b.Addr(),
		"net_interface " + phoneIP,
		"dns_server " + phoneIP + ":9",
		// It binds RTP on the unspecified address and tries ports of the range until one is free. It sends only where the
		// SDP of a phone on loopback says.
		"rtp_ports 10000-20000",
		"rtcp_mux " + yesno(b.cfg.OnePort),
		"call_local_timeout 120",
		"call_max_calls 4",
		"audio_source aufile," + tone,
		"audio_player aubridge,ear",
		"audio_alert aubridge,bell",
		"ausrc_srate 8000", "auplay_srate 8000", "ausrc_channels 1", "auplay_channels 1",
		"snd_path " + b.dir,
		"module_path " + modules,
		"module g711.so", "module aufile.so", "module aubridge.so", "module sndfile.so",
		"module_app account.so", "module_app menu.so", "module_app ctrl_tcp.so",
		"statmode_default off",
		"ctrl_tcp_listen " + net.JoinHostPort(phoneIP, strconv.Itoa(ctlPort)),
	}
	if b.cfg.Instance {
		lines = append(lines, "module_tmp uuid.so")
	}
	for _, m := range b.cfg.Modules {
		lines = append(lines, "module "+m+".so")
	}
	// baresip ends a call when the file does, so the file outlasts the phone.
	sound := (&audio.Tone{Hz: b.cfg.ToneHz}).Next(nil, audio.Rate*int(Life/time.Second))
	for i := range sound {
		if n := len(b.cfg.Sound); n > 0 {
			sound[i] = b.cfg.Sound[i%n]
		}
	}
	for name, content := range map[string]string{
		"config": strings.Join(lines, "\n") + "\n",
		// Accounts and contacts come over the control socket; without these files baresip writes examples.
		"accounts": "", "contacts": "",
		"tone.wav": string(audio.Wav(sound)),
	} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func yesno(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Addr is where the phone listens for SIP, UDP and TCP.
func (b *Baresip) Addr() string { return net.JoinHostPort(phoneIP, strconv.Itoa(b.port)) }

// Log is what baresip printed so far, with every SIP message.
func (b *Baresip) Log() string { return b.log.String() }

// Events gives a channel of what happens from now on. It is closed when the phone ends; a reader that lags far behind
// misses events.
func (b *Baresip) Events() <-chan Event { return b.ctl.subscribe() }

// account is the account line, with or without registration.
func (b *Baresip) account(expires time.Duration) string {
	answer := "manual"
	if b.cfg.Answer {
		answer = "auto"
	}
	a := fmt.Sprintf(`<%s;transport=%s>;outbound="sip:%s;transport=%s";regint=%d;answermode=%s;audio_codecs=%s`,
		b.cfg.AOR, b.cfg.Transport, b.cfg.Proxy, b.cfg.Transport, int(expires/time.Second), answer, b.cfg.Codecs)
	if b.cfg.Password != "" {
		a += fmt.Sprintf(";auth_user=%s;auth_pass=%s", b.cfg.AuthUser, b.cfg.Password)
	}
	return a + b.cfg.Params
}

// Register registers the phone and returns when the registrar has answered; the phone keeps the registration up from
// then on. Registering again starts anew: baresip removes the old registration first.
func (b *Baresip) Register(ctx context.Context) error {
	b.t.Helper()
	if b.has {
		if err := b.Unregister(ctx); err != nil {
			return err
		}
	}
	from := b.ctl.count()
	if _, err := b.ctl.command(ctx, "uanew", b.account(b.cfg.Expires)); err != nil {
		return err
	}
	b.has = true
	e, _, err := b.ctl.wait(ctx, from, func(e Event) bool { return e.Type == RegisterOK || e.Type == RegisterFail })
	if err != nil {
		return fmt.Errorf("%s registers with %s: no answer: %w", b.cfg.AOR, b.cfg.Proxy, err)
	}
	if e.Type == RegisterFail {
		return fmt.Errorf("%s registers with %s: %s", b.cfg.AOR, b.cfg.Proxy, e.Param)
	}
	return nil
}

// Unregister takes the registration back. baresip sends the request and does not tell of the answer, so neither does this.
func (b *Baresip) Unregister(ctx context.Context) error {
	b.t.Helper()
	if _, err := b.ctl.command(ctx, "uadel", b.cfg.AOR); err != nil {
		return err
	}
	b.has = false
	return nil
}

// ready makes the account known, for a phone that calls without having registered.
func (b *Baresip) ready(ctx context.Context) error {
	if b.has {
		return nil
	}
	_, err := b.ctl.command(ctx, "uanew", b.account(0))
	b.has = err == nil
	return err
}

// Ready makes the phone take calls without registering: whoever knows Addr can reach it.
func (b *Baresip) Ready(ctx context.Context) {
	b.t.Helper()
	if err := b.ready(ctx); err != nil {
		b.t.Fatalf("baresip %s: %v", b.cfg.AOR, err)
	}
}

// Stop hangs up, unregisters and ends the phone.
func (b *Baresip) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	select {
	case <-b.proc.done:
	default:
		if _, err := b.ctl.command(ctx, "quit", ""); err == nil {
			select { // it waits for the answer to its last REGISTER, up to five seconds
			case <-b.proc.done:
			case <-ctx.Done():
			}
		}
	}
	b.proc.stop()
	b.ctl.close()
}

// Kill ends the phone at once: it says goodbye to nobody.
func (b *Baresip) Kill() {
	b.proc.kill()
	b.ctl.close()
}

// Heard says what the phone heard in its last call that had audio, up to the moment in which it held that call: baresip
// 1.0 stops recording then. Packets tells of the time after. While the call goes on the last part may be missing.
func (b *Baresip) Heard() (audio.Sound, error) {
	samples, err := b.Recording()
	if err != nil {
		return audio.Sound{}, err
	}
	return audio.Listen(samples), nil
}

// Recording is all that the phone heard in its last call that had audio, with the same limits.
func (b *Baresip) Recording() ([]int16, error) {
	files, err := filepath.Glob(filepath.Join(b.dir, "dump-*-dec.wav"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("baresip %s recorded nothing", b.cfg.AOR)
	}
	raw, err := os.ReadFile(files[len(files)-1]) // named by time, so the last is the newest
	if err != nil {
		return nil, err
	}
	samples, err := audio.ParseWav(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", files[len(files)-1], err)
	}
	return samples, nil
}

// WaitRecording returns when the phone has heard a piece of sound, so well that nothing else can be meant by it; see
// audio.Match.
func (b *Baresip) WaitRecording(ctx context.Context, piece []int16, least float64) error {
	tick := time.NewTicker(5 * poll)
	defer tick.Stop()
	best := 0.0
	for {
		heard, err := b.Recording()
		if err == nil {
			match, _ := audio.Match(piece, heard)
			if best = max(best, match); match >= least {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("baresip %s waits for a sound: what it heard is like it to %.3f, %.3f is wanted (%v): %w", b.cfg.AOR, best, least, err, context.Cause(ctx))
		}
	}
}

// WaitHeard returns when the phone has recorded enough of the tone to recognise it.
func (b *Baresip) WaitHeard(ctx context.Context, hz float64) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		heard, err := b.Heard()
		if err == nil && heard.Is(hz) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("baresip %s waits to hear %v Hz: heard %+v (%v): %w", b.cfg.AOR, hz, heard, err, context.Cause(ctx))
		}
	}
}

// rtpCounts finds the figures in what baresip prints of an audio stream: packets of each source received, packets sent.
var rtpCounts = regexp.MustCompile(`rcvd=(\d+)|TX: packets=(\d+)`)

// Packets is how many RTP packets the current call has received and sent so far.
func (b *Baresip) Packets(ctx context.Context) (received, sent int, err error) {
	text, err := b.ctl.command(ctx, "audio_debug", "")
	if err != nil {
		return 0, 0, err
	}
	for _, m := range rtpCounts.FindAllStringSubmatch(text, -1) {
		r, _ := strconv.Atoi(m[1])
		s, _ := strconv.Atoi(m[2])
		received += r
		sent += s
	}
	return received, sent, nil
}

// WaitPackets returns when the current call has received n RTP packets more than now.
func (b *Baresip) WaitPackets(ctx context.Context, n int) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	first, _, err := b.Packets(ctx)
	for now := first; err == nil && now < first+n; {
		select {
		case <-tick.C:
			now, _, err = b.Packets(ctx)
		case <-ctx.Done():
			return fmt.Errorf("baresip %s waits for %d packets: got %d: %w", b.cfg.AOR, n, now-first, context.Cause(ctx))
		}
	}
	return err
}
