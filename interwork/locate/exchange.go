package locate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"
)

// Exchanger carries one DNS message to a name server and the answer back.
type Exchanger interface {
	// Exchange sends query to server and returns the answer to it. network is "udp" or "tcp". Messages that are no answer
	// to query are passed over. It ends at the latest with ctx, then with an error that is context.Cause(ctx) or
	// os.ErrDeadlineExceeded. query stays the caller's and is not changed.
	Exchange(ctx context.Context, server netip.AddrPort, network string, query *dns.Msg) (*dns.Msg, error)
}

var _ Exchanger = (*Wire)(nil)

const (
	// maxStrays is how many datagrams that are no answer to the question a Wire passes over before it takes the rest for an
	// attempt to guess the identifier. The Resolver then asks over TCP, which cannot be guessed into (RFC 5452 §9.2).
	maxStrays = 32

	// receiveSize is the room for a datagram: more than was asked for with EDNS, for servers that do not care.
	receiveSize = 4096
)

// errStrays says that more than maxStrays datagrams were no answer.
var errStrays = errors.New("flooded with answers to other questions")

// Wire is the Exchanger over sockets. Each query has a socket of its own, connected to the server: so datagrams from
// elsewhere never arrive, the source port is the kernel's and random (RFC 5452 §9.2), and a closed port is known at once.
type Wire struct {
	// Dial opens the socket; nil is net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Exchange implements Exchanger.
func (w *Wire) Exchange(ctx context.Context, server netip.AddrPort, network string, query *dns.Msg) (*dns.Msg, error) {
	dial := w.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	// A context that ends without a deadline ends the reading too.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	co := &dns.Conn{Conn: conn, UDPSize: receiveSize}
	if err := co.WriteMsg(query); err != nil {
		return nil, failure(ctx, "send to", server, err)
	}
	for strays := 0; ; {
		b, err := co.ReadMsgHeader(nil)
		if err != nil && !errors.Is(err, dns.ErrShortRead) {
			return nil, failure(ctx, "hear from", server, err)
		}
		if err == nil {
			answer := new(dns.Msg)
			if answer.Unpack(b) == nil && answers(query, answer) {
				return answer, nil
			}
		}
		if strays++; strays > maxStrays || network == "tcp" {
			return nil, failure(ctx, "hear from", server, errStrays)
		}
	}
}

// answers says that m is an answer to query: its identifier, its question as it was written (a server copies the case, by
// which a query may be made harder to guess), and not a query itself.
func answers(query, m *dns.Msg) bool {
	if !m.Response || m.Id != query.Id || m.Opcode != query.Opcode {
		return false
	}
	// A server that cannot read the query, or not its EDNS part, may send the header alone.
	if len(m.Question) == 0 {
		return m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented
	}
	return len(m.Question) == 1 && m.Question[0] == query.Question[0]
}

func failure(ctx context.Context, what string, server netip.AddrPort, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s name server %s: %w", what, server, err)
}

// late says that err means nothing came in time.
func late(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}
