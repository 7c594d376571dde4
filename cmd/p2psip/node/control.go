package node

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"p2psip/dnsreg"
	"p2psip/overlay"
	"p2psip/proxypeer/policy"
)

// A running node answers questions on a Unix socket that only its owner can open. Both directions are lines of JSON: each
// line of the client is a Request, each gets one Response, in order. A client may keep asking until it closes.
//
//	{"do":"status"}
//	{"do":"lookup","aor":"sip:bob@p2psip.example"}
//	{"do":"reload"}
//	{"do":"survey","role":"proxy","turn":3}
//	{"do":"vote","node":"12D3KooW…"}
//
//	{"status":{…}}   {"found":{…}}   {"found":{…},"error":"…","kind":"offline"}

// Request is a question.
type Request struct {
	Do  string `json:"do"`            // "status", "lookup", "reload", "survey" or "vote"
	AOR string `json:"aor,omitempty"` // for lookup

	Role overlay.Role `json:"role,omitempty"` // for survey
	Turn int          `json:"turn,omitempty"` // for survey: counts them
	Node string       `json:"node,omitempty"` // for vote
}

// Response is the answer.
type Response struct {
	Status *Status         `json:"status,omitempty"`
	Found  *Found          `json:"found,omitempty"`
	Reload *Reloaded       `json:"reloaded,omitempty"`
	Survey *overlay.Survey `json:"survey,omitempty"`
	Votes  []dnsreg.Vote   `json:"votes,omitempty"`
	Error  string          `json:"error,omitempty"`
	Kind   string          `json:"kind,omitempty"` // which error, see kinds
}

// kinds names the errors that a client may want to tell apart.
var kinds = map[string]error{
	"unknown-user": overlay.ErrUnknownUser,
	"offline":      overlay.ErrOffline,
	"unreachable":  overlay.ErrUnreachable,
	"bad-aor":      overlay.ErrBadAOR,
	"no-role":      overlay.ErrNoRole,
	"no-policy":    ErrNoPolicy,
	"bad-policy":   policy.ErrBadFile,
}

const (
	controlFile = "control.sock"
	// maxSocketPath is what fits a Unix socket's address everywhere (104 bytes on some systems, with the final zero).
	maxSocketPath = 100

	maxControlConns = 16
	maxRequest      = 4 << 10
	maxResponse     = 8 << 20
	controlIdle     = 5 * time.Minute  // for the next question
	controlLookup   = 20 * time.Second // for an answer
)

// controlPath gives the path of the control socket of a data directory. Where that is too long for a socket, a short one
// is derived from it, in a directory of the user's own.
func controlPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	if p := filepath.Join(abs, controlFile); len(p) <= maxSocketPath {
		return p, nil
	}
	sum := sha256.Sum256([]byte(abs))
	p := filepath.Join(os.TempDir(), fmt.Sprintf("p2psip-%d", os.Getuid()), hex.EncodeToString(sum[:8])+".sock")
	if len(p) > maxSocketPath {
		return "", fmt.Errorf("neither %s nor %s is short enough for a socket", abs, p)
	}
	return p, nil
}

// control serves the socket.
type control struct {
	n    *Node
	ln   net.Listener
	path string
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex // guards both
	shut  bool
	conns map[net.Conn]bool
}

func listenControl(n *Node) (*control, error) {
	path, err := controlPath(n.cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	if err := private(dir, n.cfg.DataDir); err != nil {
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	// This process holds the lock on the data directory, so a socket there is a dead one's.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	c := &control{n: n, ln: ln, path: path, conns: map[net.Conn]bool{}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.wg.Go(c.accept)
	return c, nil
}

// private makes sure that a directory outside the data directory is the user's own, so that nobody else answers there.
func private(dir, data string) error {
	if real, err := filepath.EvalSymlinks(data); err == nil {
		data = real
	}
	if abs, err := filepath.Abs(data); err == nil && abs == dir {
		return nil
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() || fi.Mode().Perm()&0o022 != 0 || !owned(fi) {
		return fmt.Errorf("%s is not a directory of your own; use a data directory with a shorter path", dir)
	}
	return nil
}

func (c *control) accept() {
	for {
		conn, err := c.ln.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		if c.shut || len(c.conns) >= maxControlConns {
			c.mu.Unlock()
			conn.Close()
			continue
		}
		c.conns[conn] = true
		c.mu.Unlock()
		c.wg.Go(func() {
			c.serve(conn)
			c.mu.Lock()
			delete(c.conns, conn)
			c.mu.Unlock()
			conn.Close()
		})
	}
}

func (c *control) serve(conn net.Conn) {
	in := bufio.NewScanner(conn)
	in.Buffer(make([]byte, 0, 512), maxRequest)
	out := json.NewEncoder(conn)
	out.SetEscapeHTML(false)
	for {
		conn.SetDeadline(time.Now().Add(controlIdle))
		if !in.Scan() {
			return
		}
		var req Request
		res := Response{}
		if err := json.Unmarshal(in.Bytes(), &req); err != nil {
			res.Error = "the request is no JSON: " + err.Error()
		} else {
			res = c.answer(req)
		}
		conn.SetDeadline(time.Now().Add(controlLookup))
		if out.Encode(res) != nil {
			return
		}
	}
}

func (c *control) answer(req Request) (res Response) {
	defer func() {
		if p := recover(); p != nil {
			c.n.log.Error("panic while answering the control socket", "do", req.Do, "panic", p)
			res = Response{Error: "a fault in the node; its log tells more"}
		}
	}()
	switch req.Do {
	case "status":
		s := c.n.Status()
		return Response{Status: &s}
	case "lookup":
		aor, err := overlay.ParseAOR(req.AOR)
		if err != nil {
			return failure(err)
		}
		ctx, cancel := context.WithTimeout(c.ctx, controlLookup)
		defer cancel()
		f, err := c.n.Lookup(ctx, aor)
		res := failure(err)
		res.Found = &f
		return res
	case "reload":
		r, err := c.n.Reload()
		res := failure(err)
		res.Reload = &r
		return res
	case "vote":
		votes, err := c.n.vote(c.ctx, req.Node)
		res := failure(err)
		res.Votes = votes
		return res
	case "survey":
		ctx, cancel := context.WithTimeout(c.ctx, controlLookup)
		defer cancel()
		s, err := c.n.overlay.SurveyRole(ctx, req.Role, max(req.Turn, 0))
		res := failure(err)
		res.Survey = &s
		return res
	}
	return Response{Error: fmt.Sprintf("this node does not know %q", req.Do)}
}

// failure puts an error into a response; nil gives an empty one.
func failure(err error) Response {
	if err == nil {
		return Response{}
	}
	r := Response{Error: err.Error()}
	for kind, target := range kinds {
		if errors.Is(err, target) {
			r.Kind = kind
		}
	}
	return r
}

func (c *control) close() {
	c.stop()
	c.ln.Close() // removes the socket too
	c.mu.Lock()
	c.shut = true
	for conn := range c.conns {
		conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}
