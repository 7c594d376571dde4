package phone

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

// registration is the phone's binding at its registrar (RFC 3261 §10). One Call-ID serves all of them.
type registration struct {
	callID  string
	cseq    uint32
	asked   time.Duration
	refresh *time.Timer
}

// registerWait bounds a refresh in the background: 64*T1.
const registerWait = 32 * time.Second

// Register registers the phone for that long, in whole seconds, answers a challenge and a 423, and returns what the
// registrar granted. The phone refreshes the registration at half of that until Unregister or Close; a refresh that fails
// is logged and tried again. A refused request gives a *StatusError.
func (p *Phone) Register(ctx context.Context, expires time.Duration) (granted time.Duration, err error) {
	if expires < time.Second {
		return 0, fmt.Errorf("register %s for %v: less than a second", p.cfg.AOR, expires)
	}
	granted, err = p.register(ctx, expires)
	if err == nil {
		p.refreshAfter(expires, granted/2)
	}
	return granted, err
}

// Unregister takes the registration back.
func (p *Phone) Unregister(ctx context.Context) error {
	p.refreshAfter(0, 0)
	_, err := p.register(ctx, 0)
	return err
}

func (p *Phone) register(ctx context.Context, expires time.Duration) (time.Duration, error) {
	asked := int(expires / time.Second)
	registrar := "sip:" + p.uri.Host
	for raised := false; ; raised = true {
		res, err := p.do(ctx, p.out, func(auth []string) (*sip.Request, error) {
			p.mu.Lock()
			p.reg.cseq++
			seq := p.reg.cseq
			p.mu.Unlock()
			return p.build(parts{
				method: "REGISTER", uri: registrar, routes: p.outboundRoute(),
				from: "<" + p.cfg.AOR + ">;tag=" + token(), to: "<" + p.cfg.AOR + ">",
				callID: p.reg.callID, cseq: seq,
				contact: p.contact + ";expires=" + strconv.Itoa(asked), headers: auth,
			})
		})
		if err != nil {
			return 0, fmt.Errorf("register %s with %s: %w", p.cfg.AOR, p.cfg.Outbound, err)
		}
		if res.StatusCode == 423 && !raised && asked > 0 {
			if h := res.GetHeader("Min-Expires"); h != nil {
				if least, err := strconv.ParseUint(strings.TrimSpace(h.Value()), 10, 31); err == nil && int(least) > asked {
					asked = int(least)
					continue
				}
			}
		}
		if err := statusError("REGISTER", res); err != nil {
			return 0, fmt.Errorf("register %s with %s: %w", p.cfg.AOR, p.cfg.Outbound, err)
		}
		return p.granted(res, asked), nil
	}
}

// granted reads for how long the registrar has taken this phone's contact: the expires parameter of the Contact that is
// ours, else the Expires header, else what was asked.
func (p *Phone) granted(res *sip.Response, asked int) time.Duration {
	for _, c := range message.Contacts(res) {
		if c.Address.User != p.uri.User || !strings.HasSuffix(p.host, ":"+strconv.Itoa(c.Address.Port)) {
			continue
		}
		if v, ok := c.Params.Get("expires"); ok {
			if n, err := strconv.ParseUint(v, 10, 31); err == nil {
				return time.Duration(n) * time.Second
			}
		}
	}
	if h := res.GetHeader("Expires"); h != nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(h.Value()), 10, 31); err == nil {
			return time.Duration(n) * time.Second
		}
	}
	return time.Duration(asked) * time.Second
}

// refreshAfter sets when the registration is renewed; asked 0 stops that.
func (p *Phone) refreshAfter(asked, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reg.refresh != nil {
		p.reg.refresh.Stop()
		p.reg.refresh = nil
	}
	p.reg.asked = asked
	if p.closed || asked == 0 {
		return
	}
	p.reg.refresh = time.AfterFunc(max(after, time.Second), func() { p.start(p.renew) })
}

func (p *Phone) renew(ctx context.Context) {
	p.mu.Lock()
	asked := p.reg.asked
	p.mu.Unlock()
	if asked == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, registerWait)
	defer cancel()
	granted, err := p.register(ctx, asked)
	after := granted / 2
	if err != nil {
		p.log.Warn("registration not refreshed", "user", p.cfg.AOR, "err", err)
		after = min(asked/4, registerWait)
	}
	p.mu.Lock()
	still := p.reg.asked == asked
	p.mu.Unlock()
	if still {
		p.refreshAfter(asked, after)
	}
}
