package node

import (
	"context"

	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

// words are the words of proxy peers, by the keys that the overlay knows them by.
type words struct{ o *overlay.Peer }

var _ proxy.Words = words{}

func (w words) Give(text []byte) ([]byte, error) { return w.o.Vouch(text) }

func (w words) Believe(ctx context.Context, text, word []byte) bool {
	return w.o.Vouched(ctx, overlay.RoleProxy, text, word) == nil
}
