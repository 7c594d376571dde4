package account

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/overlay"
)

// A call as the public address. The phone knows nothing of it: it sends From its address in the overlay, and gets its own
// From and CSeq back in every response. What leaves has the public address in From, goes to the provider first, and
// carries the answers to the provider's challenges, which are given here.
//
// A request that is repeated with credentials takes the next CSeq, as RFC 3261 §22.2 wants: a provider may take the same one
// for a merged request (§8.2.2.2, 482). From then on the far side's count is ahead of the phone's, so every later request of
// the dialog is moved up by the difference, its ACK and RAck too. The differences are kept here, by Call-ID and From tag,
// and are lost with the process: after a restart a phone's BYE arrives with the CSeq that the call began with, or one less
// for each challenge inside it. RFC 3261 §12.2.2 has an equal number accepted, which is the usual case of one challenge; a
// lower one is refused with 500, and the call ends for the far side when its session timer or its user ends it.

const (
	maxDialogs  = 2048
	dialogAge   = 12 * time.Hour  // of a call without a request
	attemptAge  = 5 * time.Minute // of what has made no call yet; an INVITE rings for three
	afterBye    = time.Minute
	maxUserPart = 128
)

// dialogs are the calls under way as public addresses.
type dialogs struct {
	now func() time.Time

	mu    sync.Mutex // guards table, and the time fields of the dialogs
	table map[dialogKey]*dialog
}

type dialogKey struct{ callID, tag string }

func newDialogs(now func() time.Time) *dialogs {
	return &dialogs{now: now, table: make(map[dialogKey]*dialog)}
}

// dialog is one call's state towards the provider.
type dialog struct {
	a   *Account
	end time.Time // guarded by dialogs.mu

	mu     sync.Mutex // guards what follows
	login  login
	offset uint32 // of the far side's CSeq over the phone's
	top    uint32 // the highest CSeq sent
	invite struct {
		phone, sent uint32
		auth        []sip.Header // repeated in the ACK (RFC 3261 §22.1)
	}
}

func (t *dialogs) get(k dialogKey) *dialog {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.table[k]
	if d == nil || !t.now().Before(d.end) {
		return nil
	}
	return d
}

// put notes a dialog; the one that ends first makes room.
func (t *dialogs) put(k dialogKey, d *dialog) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.table) >= maxDialogs && t.table[k] == nil {
		first := k
		for o, e := range t.table {
			if !now.Before(e.end) {
				delete(t.table, o)
			} else if first == k || e.end.Before(t.table[first].end) {
				first = o
			}
		}
		if len(t.table) >= maxDialogs {
			delete(t.table, first)
		}
	}
	d.end = now.Add(attemptAge)
	t.table[k] = d
}

func (t *dialogs) extend(d *dialog, by time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.end = t.now().Add(by)
}

// Call is one request of a phone that leaves the overlay as a public address. Its methods do not block.
type Call struct {
	t      *dialogs
	key    dialogKey
	d      *dialog
	uri    sip.Uri
	routes []string

	from   *sip.FromHeader // as the phone knows it
	cseq   uint32          // likewise
	method sip.RequestMethod

	begun  bool
	again  bool // to be sent with credentials
	rounds int
	sent   uint32
}

// Call says whether a request of a phone goes out as a public address of its user, and how; nil if not. uri is where the
// request goes, leaves says that this is outside the overlay. Nothing is changed by asking.
func (m *Manager) Call(req *sip.Request, uri sip.Uri, leaves bool) *Call {
	from, id, cseq, to := req.From(), req.CallID(), req.CSeq(), req.To()
	if from == nil || id == nil || cseq == nil || to == nil || !strings.EqualFold(from.Address.Host, string(m.c.OID)) {
		return nil
	}
	user, err := m.c.OID.AOR(from.Address.User)
	if err != nil {
		return nil
	}
	tag, _ := from.Params.Get("tag")
	c := &Call{t: m.calls, key: dialogKey{string(*id), tag}, from: from, cseq: cseq.SeqNo, method: req.Method}
	if to.Params.Has("tag") || req.Method == sip.ACK {
		if !leaves {
			return nil
		}
		if c.d = m.calls.get(c.key); c.d == nil {
			return nil
		}
		return c
	}
	w, uri, ok := m.line(user, uri, leaves)
	if !ok {
		return nil
	}
	c.uri = uri
	w.mu.Lock()
	id2, service := w.login.id, w.granted.routes
	w.mu.Unlock()
	switch { // what the provider said when it registered the account goes before what was configured (RFC 3608)
	case len(service) > 0:
		c.routes = service
	case w.a.Proxy != "":
		c.routes = []string{w.a.route()}
	case !strings.EqualFold(uri.Host, w.a.uri().Host):
		c.routes = []string{loose("sip:" + w.a.uri().Host)}
	}
	id2.any = false                                            // only a realm that has let this account register gets an answer
	if c.d = m.calls.get(c.key); c.d != nil && c.d.a == &w.a { // the phone tries again in the same call
		c.d.mu.Lock()
		c.d.login.id = id2
		c.d.mu.Unlock()
		return c
	}
	c.d = &dialog{a: &w.a, login: login{id: id2}}
	return c
}

// line finds the account that a call of a user takes.
func (m *Manager) line(user overlay.AOR, uri sip.Uri, leaves bool) (*worker, sip.Uri, bool) {
	ws := m.lines.Load()
	if ws == nil || uri.Scheme != "sip" && uri.Scheme != "sips" || len(uri.User) > maxUserPart {
		return nil, uri, false
	}
	if gr := uri.UriParams.Has("gr"); gr {
		return nil, uri, false // somebody's device, not a number
	}
	var all *worker
	for _, w := range *ws {
		if w.aor != user {
			continue
		}
		if w.a.Default {
			all = w
		}
		rest, ok := strings.CutPrefix(strings.ReplaceAll(uri.User, "%23", "#"), w.a.Prefix)
		if w.a.Prefix == "" || !ok || rest == "" {
			continue
		}
		uri.User = strings.ReplaceAll(rest, "#", "%23")
		if !leaves { // a number without a domain of its own: the provider's
			uri = sip.Uri{Scheme: uri.Scheme, User: uri.User, Host: w.a.uri().Host, UriParams: uri.UriParams}
		}
		return w, uri, true
	}
	return all, uri, all != nil && leaves
}

// Way gives what the request is sent to: its Request-URI, without a host if that stays as it is, and the Route values in
// front of its own.
func (c *Call) Way() (uri sip.Uri, routes []string) { return c.uri, c.routes }

// Dress changes the copy of the request that leaves. Headers are replaced, never changed in place.
func (c *Call) Dress(fwd *sip.Request) {
	d := c.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if !c.begun {
		c.begun = true
		d.login.begin()
		if c.method != sip.ACK {
			if c.t.get(c.key) != d {
				c.t.put(c.key, d)
			}
			c.sent = c.cseq + d.offset
		}
	}
	if c.again {
		c.again = false
		c.sent = max(d.top+1, c.cseq+d.offset)
		d.offset = c.sent - c.cseq
	}
	fwd.RemoveHeader("Proxy-Authorization") // for this node, which has let the phone in
	fwd.RemoveHeader("Authorization")
	auth := d.invite.auth
	if c.method == sip.ACK {
		c.sent = c.cseq + d.offset
		if c.cseq == d.invite.phone {
			c.sent = d.invite.sent
		}
	} else {
		auth = d.login.headers(c.method, fwd.Recipient.String())
		d.top = max(d.top, c.sent)
	}
	if c.method == sip.INVITE {
		d.invite.phone, d.invite.sent, d.invite.auth = c.cseq, c.sent, auth
	}
	fwd.ReplaceHeader(&sip.FromHeader{DisplayName: c.from.DisplayName, Address: d.a.uri(), Params: c.from.Params})
	fwd.ReplaceHeader(&sip.CSeqHeader{SeqNo: c.sent, MethodName: c.method})
	if h := fwd.GetHeader("RAck"); h != nil {
		if r, ok := d.rack(h.Value()); ok {
			fwd.ReplaceHeader(sip.NewHeader("RAck", r))
		}
	}
	for _, h := range auth {
		fwd.AppendHeader(h)
	}
}

// rack moves the CSeq in a RAck (RFC 3262 §7.2): "response-number CSeq-number method".
func (d *dialog) rack(v string) (string, bool) {
	f := strings.Fields(v)
	if len(f) != 3 {
		return "", false
	}
	n, err := strconv.ParseUint(f[1], 10, 32)
	if err != nil || uint32(n) != d.invite.phone {
		return "", false
	}
	return fmt.Sprintf("%s %d %s", f[0], d.invite.sent, f[2]), true
}

// Challenged takes a 401 or 407 to what left. again says that the request is to be sent once more, and dressed for that;
// otherwise why tells the phone's user what is wrong.
func (c *Call) Challenged(res *sip.Response) (again bool, why string) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.rounds++; c.rounds >= maxRounds {
		return false, c.d.a.AOR + ": the provider asks for a password again and again"
	}
	if err := c.d.login.take(res); err != nil {
		if errors.Is(err, errRealm) && len(c.d.login.id.realms) == 0 {
			return false, c.d.a.AOR + " has not been registered yet, so the password is not shown to anybody"
		}
		return false, c.d.a.AOR + ": " + err.Error()
	}
	c.again = true
	return true, ""
}

// Undress gives a response the From and CSeq that the phone knows.
func (c *Call) Undress(res *sip.Response) {
	res.ReplaceHeader(&sip.FromHeader{DisplayName: c.from.DisplayName, Address: c.from.Address, Params: c.from.Params})
	res.ReplaceHeader(&sip.CSeqHeader{SeqNo: c.cseq, MethodName: c.method})
	switch {
	case res.StatusCode < 200 || res.StatusCode >= 300:
	case c.method == sip.BYE:
		c.t.extend(c.d, afterBye)
	case c.method == sip.INVITE || c.method == sip.SUBSCRIBE || c.method == sip.UPDATE:
		c.t.extend(c.d, dialogAge)
	}
}

// setLines gives the workers to line, without a lock that anybody holds for long. Callers hold mu.
func (m *Manager) setLines() {
	var ws []*worker
	for _, w := range m.workers {
		if w.a.Prefix != "" || w.a.Default {
			ws = append(ws, w)
		}
	}
	slices.SortFunc(ws, func(a, b *worker) int { return strings.Compare(a.a.AOR, b.a.AOR) })
	m.lines.Store(&ws)
}
