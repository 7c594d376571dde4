package phone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
)

const (
	// DefaultMaxCalls is how many calls a phone has at one time before it is busy.
	DefaultMaxCalls = 8
	// DefaultToneHz is the tone a phone sends if nothing else is said.
	DefaultToneHz = 440
)

// Errors.
var (
	ErrClosed = errors.New("the phone is closed")
	// ErrState is wrapped when a call is not in a state in which what was asked makes sense.
	ErrState = errors.New("the call is not in the state for that")
)

// StatusError is a request answered with a final status other than 2xx.
type StatusError struct {
	Method string
	Status int
	Reason string // as the far side worded it
}

func (e *StatusError) Error() string { return fmt.Sprintf("%s: %d %s", e.Method, e.Status, e.Reason) }

// Config makes a Phone.
type Config struct {
	AOR      string         // "sip:alice@p2psip.example"
	Outbound string         // outbound proxy, IP address and port: "127.0.0.1:5063"
	Local    net.PacketConn // the UDP socket for SIP; the phone closes it, unless New fails
	AuthUser string         // for digest; "": the user part of AOR
	Password string         // "": challenges are not answered

	// Media opens the socket for the audio of one call; reports go over it only where the far side wants them on the same
	// port. nil: two neighbouring UDP ports on Local's address, one of them for reports.
	Media func() (net.PacketConn, error)

	// Incoming is told of every new call and decides about it by calling Ring, Answer or Reject on it, then or later. It
	// is called on the reader of the socket and must not block. nil: 480 for every call. See AnswerAfter, Busy, RingOnly.
	Incoming func(*Call)

	// Sound is asked at the beginning of every call what it sends and who listens; a nil Source is a tone of ToneHz, a nil
	// Sink is nobody. Both are used until the call is over. nil: a tone and nobody.
	Sound func(*Call) (Source, Sink)
	// Codecs are those to use, the preferred one first; nil: DefaultCodecs.
	Codecs []Codec
	// ReportEvery is the mean time between two RTCP reports; 0: DefaultReportEvery, negative: none.
	ReportEvery time.Duration

	// Silent: calls are set up with audio, but none is sent and none is listened to. For phones by the hundred.
	Silent bool

	ToneHz   float64                                      // sent in every call; 0: DefaultToneHz
	MaxCalls int                                          // 0: DefaultMaxCalls; a further call gets 486
	Timers   transaction.Timers                           // zero: RFC 3261
	Logger   *slog.Logger                                 // nil: slog.Default()
	Trace    func(out bool, remote string, m sip.Message) // every SIP message; must be quick and must not keep m
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	uri, err := message.ParseURI(c.AOR)
	if err != nil || uri.Scheme != "sip" || uri.User == "" {
		return fmt.Errorf("phone: %q is no address of record such as sip:alice@p2psip.example", c.AOR)
	}
	if _, err := netip.ParseAddrPort(c.Outbound); err != nil {
		return fmt.Errorf("phone: outbound proxy %q is not an IP address and port: %w", c.Outbound, err)
	}
	if c.Local == nil {
		return errors.New("phone: no socket")
	}
	if _, ok := c.Local.LocalAddr().(*net.UDPAddr); !ok {
		return errors.New("phone: the socket is not a UDP socket")
	}
	if c.MaxCalls < 0 || c.ToneHz < 0 {
		return errors.New("phone: MaxCalls or ToneHz is negative")
	}
	for _, codec := range c.Codecs {
		if codec != PCMU && codec != PCMA {
			return fmt.Errorf("phone: there is no codec with payload type %d", codec)
		}
	}
	return c.Timers.Validate()
}

// Phone is a running phone. Make one with New, end it with Close.
type Phone struct {
	cfg     Config
	uri     sip.Uri // of the AOR
	contact string  // "<sip:alice@127.0.0.1:40000>"
	host    string  // host and port of the contact
	udp     *flow.UDP
	layer   *transaction.Layer
	out     flow.Flow // to the outbound proxy
	log     *slog.Logger
	ctx     context.Context // ends with the phone
	cancel  context.CancelFunc
	wg      sync.WaitGroup // what runs in the background: refreshes, BYEs

	mu     sync.Mutex
	closed bool             // guarded by mu
	calls  map[string]*Call // guarded by mu; by local tag
	reg    registration     // guarded by mu
}

var _ transaction.Handler = (*Phone)(nil)

// New starts a phone. It sends nothing by itself.
func New(cfg Config) (*Phone, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	uri, _ := message.ParseURI(cfg.AOR)
	if cfg.AuthUser == "" {
		cfg.AuthUser = uri.User
	}
	if cfg.ToneHz == 0 {
		cfg.ToneHz = DefaultToneHz
	}
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = DefaultMaxCalls
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if len(cfg.Codecs) == 0 {
		cfg.Codecs = DefaultCodecs()
	}
	if cfg.ReportEvery == 0 {
		cfg.ReportEvery = DefaultReportEvery
	}
	local := cfg.Local.LocalAddr().(*net.UDPAddr)
	p := &Phone{cfg: cfg, uri: uri, log: cfg.Logger, calls: map[string]*Call{}}
	p.host = flow.AddrFrom(local.AddrPort()).String()
	p.contact = "<sip:" + uri.User + "@" + p.host + ">"
	p.reg.callID = token()
	o := transaction.Options{Timers: cfg.Timers, Handler: p, Logger: cfg.Logger}
	if cfg.Trace != nil {
		o.Trace = func(out bool, f flow.Flow, m sip.Message) { cfg.Trace(out, f.Remote().String(), m) }
	}
	layer, err := transaction.New(o)
	if err != nil {
		return nil, err
	}
	p.layer = layer
	p.ctx, p.cancel = context.WithCancel(context.Background())
	outbound, _ := netip.ParseAddrPort(cfg.Outbound)
	// The lock keeps the reader, which starts now, from seeing a phone half made.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.udp = flow.ListenUDP(cfg.Local, layer, flow.Options{Logger: cfg.Logger})
	p.out = p.udp.To(outbound)
	return p, nil
}

// AOR is the phone's address of record.
func (p *Phone) AOR() string { return p.cfg.AOR }

// Contact is the URI under which the phone itself is reached, "sip:alice@127.0.0.1:40000".
func (p *Phone) Contact() string { return strings.Trim(p.contact, "<>") }

// Calls are the calls that are not over.
func (p *Phone) Calls() []*Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*Call, 0, len(p.calls))
	for _, c := range p.calls {
		all = append(all, c)
	}
	return all
}

// Close ends the phone without a word to anybody; hang up and unregister first where that matters. It waits for all that
// was running.
func (p *Phone) Close() error {
	p.mu.Lock()
	p.closed = true
	if p.reg.refresh != nil {
		p.reg.refresh.Stop()
	}
	p.mu.Unlock()
	p.cancel()
	for _, c := range p.Calls() {
		c.end(State{Kind: Ended, Reason: "phone closed"})
	}
	err := p.udp.Close()
	p.layer.Close()
	p.wg.Wait()
	return err
}

// start runs f in the background until it ends, unless the phone is closed.
func (p *Phone) start(f func(ctx context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		f(p.ctx)
	}()
}

// add takes a call into the table; false if there are too many or the phone is closed.
func (p *Phone) add(c *Call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.calls) >= p.cfg.MaxCalls {
		return false
	}
	p.calls[c.localTag] = c
	return true
}

func (p *Phone) remove(c *Call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c.localTag)
}

// find gives the call in whose dialog a message is, by our own tag and the Call-ID.
func (p *Phone) find(localTag string, callID *sip.CallIDHeader) *Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls[localTag]
	if c == nil || callID == nil || c.callID != callID.Value() {
		return nil
	}
	return c
}
