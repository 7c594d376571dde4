package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
)

const (
	// BindingsFile is the name of the store of registered phones in the data directory.
	BindingsFile = "bindings.json"

	bindingsVersion  = 1
	maxBindingsBytes = 64 << 20
	saveAgain        = 5 * time.Second // after the disk refused a write
)

// bindingsDoc is the file: {"version":1,"overlay":"p2psip.example","users":[{"aor":...,"published":...,"phones":[...]}]}.
type bindingsDoc struct {
	Version int         `json:"version"`
	Overlay overlay.ID  `json:"overlay"`
	Users   []savedUser `json:"users"`

	Known []savedDevices `json:"known,omitempty"` // devices that have registered, living or not
}

type savedUser struct {
	AOR       string       `json:"aor"`
	Published bool         `json:"published"` // false: the overlay may know an older set
	Phones    []savedPhone `json:"phones"`
}

type savedPhone struct {
	ID      string        `json:"id"`
	Contact string        `json:"contact"` // header value as in a listing, with q, without expires
	CallID  string        `json:"call_id"`
	CSeq    uint32        `json:"cseq"`
	Granted time.Duration `json:"granted_ns"`
	Until   time.Time     `json:"until"`
	Agent   string        `json:"user_agent,omitempty"`
	Source  savedEndpoint `json:"source"`
	Reach   savedEndpoint `json:"reach"`
}

type savedEndpoint struct {
	Transport flow.Transport `json:"transport"`
	Local     flow.Addr      `json:"local"`
	Remote    flow.Addr      `json:"remote"`
}

// save notes that what is to be on disk changed. Callers hold mu.
func (e *Edge) save() {
	e.generation++
	e.poke()
}

func (e *Edge) poke() {
	select {
	case e.dirty <- struct{}{}:
	default:
	}
}

// saver writes the bindings whenever they changed. What changes during a write goes into the next one, so the disk sees
// two writes for any number of REGISTERs that arrive together.
func (e *Edge) saver() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.dirty:
		}
		if err := e.write(); err != nil {
			e.agenda.add(e.c.Now().Add(saveAgain), e.poke)
		}
	}
}

// write brings the file up to date and answers who waited for it.
func (e *Edge) write() error {
	e.mu.Lock()
	generation := e.generation
	if generation == e.saved {
		e.mu.Unlock()
		return nil
	}
	doc := e.snapshot()
	e.mu.Unlock()

	err := e.keep(doc)

	e.mu.Lock()
	var failed, ready []*answer
	if err != nil {
		if e.saveErr == nil {
			e.log.Error("registrations cannot be stored; phones are refused until they can", "error", err)
		}
		failed = e.takeWaiting(func(a *answer) bool { return a.generation <= generation })
	} else {
		e.saved = generation
		ready = e.takeReady()
	}
	e.saveErr = err
	e.mu.Unlock()

	for _, a := range failed {
		r := refuse(500, "Cannot Store the Registration", "the node cannot write to its disk")
		r.headers = []sip.Header{sip.NewHeader("Retry-After", "30")}
		a.respond(r)
	}
	for _, a := range ready {
		a.respond(nil)
	}
	return err
}

// keep writes the file, unless nothing is kept.
func (e *Edge) keep(doc bindingsDoc) error {
	if e.c.DataDir == "" {
		return nil
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return datadir.WriteFile(filepath.Join(e.c.DataDir, BindingsFile), append(b, '\n'), 0o600)
}

// snapshot is what belongs on disk. Callers hold mu.
func (e *Edge) snapshot() bindingsDoc {
	doc := bindingsDoc{Version: bindingsVersion, Overlay: e.c.OID, Users: make([]savedUser, 0, len(e.users))}
	for _, u := range e.users {
		s := savedUser{AOR: u.aor.String(), Published: u.published == u.desired, Phones: make([]savedPhone, 0, len(u.phones))}
		for _, p := range u.phones {
			params := append(p.params.Clone(), sip.HeaderKV{K: "q", V: formatQ(p.q)})
			h := sip.ContactHeader{DisplayName: p.display, Address: p.uri, Params: params}
			s.Phones = append(s.Phones, savedPhone{
				ID: p.id, Contact: h.Value(), CallID: p.callID, CSeq: p.cseq,
				Granted: p.expires, Until: p.until.UTC().Round(0), Agent: p.agent,
				Source: savedEndpoint(p.source), Reach: savedEndpoint(p.reach),
			})
		}
		doc.Users = append(doc.Users, s)
	}
	doc.Known = e.saveKnown()
	return doc
}

// restore reads the phones that were registered when the node last ran. A file that makes no sense is put aside: phones
// register again by themselves, which is better than a node that does not start.
func (e *Edge) restore() error {
	if e.c.DataDir == "" {
		return nil
	}
	path := filepath.Join(e.c.DataDir, BindingsFile)
	b, err := datadir.ReadFile(path, maxBindingsBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var doc bindingsDoc
	err = json.Unmarshal(b, &doc)
	if err == nil && doc.Version != bindingsVersion {
		err = fmt.Errorf("version %d, this program reads version %d", doc.Version, bindingsVersion)
	}
	if err == nil && doc.Overlay != e.c.OID {
		err = fmt.Errorf("it belongs to the overlay %q", doc.Overlay)
	}
	if err != nil {
		aside := path + ".damaged"
		e.log.Warn("the stored registrations cannot be used and are put aside; phones have to register again", "file", path, "aside", aside, "error", err)
		return os.Rename(path, aside)
	}
	now := e.c.Now()
	e.restoreKnown(doc.Known)
	for _, s := range doc.Users {
		aor, err := overlay.ParseAOR(s.AOR)
		if err != nil || aor.Host() != e.c.OID || e.users[aor] != nil || len(e.users) >= e.c.MaxUsers {
			e.log.Warn("a stored user is left out", "user", clip(s.AOR))
			continue
		}
		u := &user{aor: aor, desired: 1}
		for _, sp := range s.Phones {
			p, err := restorePhone(sp)
			if err == nil {
				p.user = aor
				p.expires = min(p.expires, e.c.MaxExpires)
			}
			if err == nil && (len(u.phones) >= e.c.MaxContacts || u.flow(p.id, p.regID) != nil) {
				err = errors.New("one too many, or twice")
			}
			if err != nil {
				e.log.Warn("a stored phone is left out", "user", aor, "error", err)
				continue
			}
			// The clock may have been wrong when it was written; nobody is registered longer than was granted.
			if latest := now.Add(p.expires); p.until.After(latest) {
				p.until = latest
			}
			if !now.Before(p.until) {
				continue
			}
			u.phones = append(u.phones, p)
			e.link(p)
			p.expiry = e.agenda.add(p.until, func() { e.expire(u, p) })
		}
		if len(u.phones) == 0 && len(s.Phones) == 0 && s.Published {
			continue
		}
		e.users[aor] = u
		u.next = now.Add(restoredAfter)
		u.retry = e.agenda.add(u.next, func() { e.retry(u) })
	}
	return nil
}

func restorePhone(s savedPhone) (*phone, error) {
	if s.ID == "" || len(s.ID) > 64 {
		return nil, errors.New("it has no device identifier")
	}
	if s.Granted <= 0 {
		return nil, errors.New("it was registered for no time")
	}
	// A phone is reached at the host it registered from (see reachOf), whatever has become of the file.
	if s.Reach.Remote.Host != s.Source.Remote.Host {
		return nil, fmt.Errorf("it registered from %s and would be reached at %s", clip(s.Source.Remote.Host), clip(s.Reach.Remote.Host))
	}
	// The value is read back by the same strict parser that took it from the phone.
	req := sip.NewRequest(sip.REGISTER, sip.Uri{})
	req.AppendHeader(sip.NewHeader("Contact", s.Contact))
	hs := message.Contacts(req)
	if len(hs) != 1 {
		return nil, fmt.Errorf("its contact %q cannot be read", clip(s.Contact))
	}
	c, r := readClaim(hs[0])
	if r != nil {
		return nil, r
	}
	c.expires = s.Granted
	return &phone{
		id: s.ID, claim: c, callID: s.CallID, cseq: s.CSeq, until: s.Until, agent: s.Agent,
		source: proxy.Endpoint(s.Source), reach: proxy.Endpoint(s.Reach),
	}, nil
}
