package transaction

import (
	"errors"
	"log/slog"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

const (
	// defaultServer bounds the server transactions. One lives 32 s after its answer on UDP, so this is about 1,000
	// requests a second for as long as one likes; at about 3 KiB each the table costs under 100 MiB when full.
	defaultServer = 32768
	// defaultClient is as large: a request is mostly sent on once.
	defaultClient = 32768
	// defaultRetryAfter is what a full table asks the sender to wait: by then half a table of T1*64 has gone.
	defaultRetryAfter = 16 * time.Second
)

// Options make a Layer.
type Options struct {
	Timers     Timers
	MaxServer  int           // most server transactions at one time; 0: 32768
	MaxSource  int           // most of them from one remote host or node; 0: a quarter of MaxServer
	MaxClient  int           // most client transactions at one time; 0: 32768
	RetryAfter time.Duration // asked for in the 503 of a full table; 0: 16 s
	Handler    Handler       // the transaction user
	Logger     *slog.Logger  // nil: slog.Default()

	// Trace, when set, sees every message in and out, retransmissions included, on the goroutine that handles it and
	// perhaps under a transaction's lock: it must be quick, must not keep m beyond the call unless it copies it, and must
	// not call the layer. out says the direction.
	Trace func(out bool, f flow.Flow, m sip.Message)
}

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	if o.Handler == nil {
		return errors.New("transaction: no handler")
	}
	if o.MaxServer < 0 || o.MaxSource < 0 || o.MaxClient < 0 || o.RetryAfter < 0 {
		return errors.New("transaction: a limit is negative")
	}
	return o.Timers.Validate()
}

func (o Options) withDefaults() Options {
	o.Timers = o.Timers.withDefaults()
	if o.MaxServer == 0 {
		o.MaxServer = defaultServer
	}
	if o.MaxSource == 0 {
		o.MaxSource = max(1, o.MaxServer/4)
	}
	if o.MaxClient == 0 {
		o.MaxClient = defaultClient
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = defaultRetryAfter
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Handler is the transaction user. Its methods are called without any lock of this package held; those that name a
// message or a flow, on the reader of that flow, so they must not block.
type Handler interface {
	// HandleRequest takes a new request with its transaction: never an ACK, nor a CANCEL that found its INVITE.
	HandleRequest(tx *Server, req *sip.Request)

	// HandleCancel says that the INVITE of tx was cancelled before its final response. The CANCEL is answered 200
	// already (§9.2); the user still has to answer tx, with 487 as a rule.
	HandleCancel(tx *Server)

	// HandleAck takes an ACK that no transaction absorbed: the one for a 2xx, which is forwarded without state (§16.11).
	HandleAck(f flow.Flow, req *sip.Request)

	// HandleResponse takes a response that belongs to no client transaction, such as a 2xx repeated after its
	// transaction is gone: it is forwarded without state by its Via (§16.7 step 1).
	HandleResponse(f flow.Flow, res *sip.Response)

	// HandleLost says that the reliable flow on which the unanswered request of tx came has ended: nobody will hear the
	// answer. The transaction is gone already.
	HandleLost(tx *Server)

	// HandleFlowClosed says that a flow ended, after the HandleLost and HandleTransportError of its transactions.
	HandleFlowClosed(f flow.Flow)
}

// ClientHandler hears of one client transaction. Each of the two failures is told at most once and nothing follows it.
// HandleTimeout and HandleTransportError run on a goroutine that others wait for, so they must not block, and never inside
// Layer.Request or Client.Cancel.
type ClientHandler interface {
	HandleResponse(c *Client, res *sip.Response) // provisional and final; every 2xx to an INVITE (RFC 6026)
	HandleTimeout(c *Client)                     // timer B or F: to be treated as a 408
	HandleTransportError(c *Client, err error)   // the flow failed, or another node is silent (ErrSilent): as a 503
}
