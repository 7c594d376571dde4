package flow

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"p2psip/interwork/message"
)

// Defaults of Options.
const (
	DefaultMaxConns         = 1024
	DefaultMaxConnsPerIP    = 32
	DefaultIdleTimeout      = 10 * time.Minute
	DefaultWriteTimeout     = 10 * time.Second
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultDialTimeout      = 5 * time.Second
	DefaultQueueMessages    = 256
	DefaultQueueBytes       = 1 << 20
	DefaultReplyRate        = 20
)

// Options bounds flows. Zero values mean the named defaults.
type Options struct {
	Limits           message.Limits // of one message
	MaxConns         int            // connections of one listener, accepted and dialled
	MaxConnsPerIP    int            // accepted connections of one IP address
	IdleTimeout      time.Duration  // a connection without a byte for so long is closed
	WriteTimeout     time.Duration  // a write may take so long before the connection is given up
	HandshakeTimeout time.Duration  // TLS handshake of an accepted or dialled connection
	DialTimeout      time.Duration  // opening a connection
	QueueMessages    int            // messages waiting to be written on one connection
	QueueBytes       int            // bytes waiting to be written on one connection
	ReplyRate        int            // answers to malformed messages per second, per listener
	TLS              *tls.Config    // for dialling out of a TLS listener
	Dial             func(ctx context.Context, network, addr string) (net.Conn, error)
	Logger           *slog.Logger
}

// Validate refuses values that cannot work.
func (o Options) Validate() error {
	for name, v := range map[string]int64{
		"MaxConns": int64(o.MaxConns), "MaxConnsPerIP": int64(o.MaxConnsPerIP), "IdleTimeout": int64(o.IdleTimeout),
		"WriteTimeout": int64(o.WriteTimeout), "HandshakeTimeout": int64(o.HandshakeTimeout),
		"DialTimeout": int64(o.DialTimeout), "QueueMessages": int64(o.QueueMessages),
		"QueueBytes": int64(o.QueueBytes), "ReplyRate": int64(o.ReplyRate),
		"Limits.Header": int64(o.Limits.Header), "Limits.Body": int64(o.Limits.Body),
	} {
		if v < 0 {
			return fmt.Errorf("flow options: %s is negative", name)
		}
	}
	return nil
}
