package overlay

import (
	"context"

	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/peer"
)

// noProviders takes the place of kad-dht's store of provider records, of which the overlay has none. kad-dht makes its own
// even where providers are switched off: a goroutine and 26 kB for each node.
type noProviders struct{}

var _ records.ProviderStore = noProviders{}

// AddProvider is part of records.ProviderStore.
func (noProviders) AddProvider(context.Context, []byte, peer.AddrInfo) error { return nil }

// GetProviders is part of records.ProviderStore.
func (noProviders) GetProviders(context.Context, []byte) ([]peer.AddrInfo, error) { return nil, nil }

// Close is part of records.ProviderStore.
func (noProviders) Close() error { return nil }
