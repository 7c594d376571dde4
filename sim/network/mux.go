package network

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// mux knows the handlers of a host.
type mux struct {
	mu       sync.Mutex
	handlers []handler     // guarded by mu
	protos   []protocol.ID // guarded by mu: their names, sorted; replaced, never changed
}

type handler struct {
	proto protocol.ID
	match func(protocol.ID) bool // nil: the name itself
	f     network.StreamHandler
}

var _ protocol.Switch = (*mux)(nil)

func (m *mux) set(p protocol.ID, match func(protocol.ID) bool, f network.StreamHandler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handlers = append(slices.DeleteFunc(m.handlers, func(h handler) bool { return h.proto == p }), handler{p, match, f})
	m.name()
}

func (m *mux) remove(p protocol.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handlers = slices.DeleteFunc(m.handlers, func(h handler) bool { return h.proto == p })
	m.name()
}

func (m *mux) name() {
	var list []protocol.ID
	for _, h := range m.handlers {
		list = append(list, h.proto)
	}
	slices.SortFunc(list, func(a, b protocol.ID) int { return strings.Compare(string(a), string(b)) })
	m.protos = list
}

func (m *mux) handler(p protocol.ID) network.StreamHandler {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.handlers {
		if h.match == nil && h.proto == p || h.match != nil && h.match(p) {
			return h.f
		}
	}
	return nil
}

// Protocols is part of protocol.Switch. The slice must not be changed.
func (m *mux) Protocols() []protocol.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.protos
}

var errNoMux = errors.New("a simulated host does not negotiate on the wire")

// AddHandler is part of protocol.Switch.
func (m *mux) AddHandler(protocol.ID, protocol.HandlerFunc) {}

// AddHandlerWithFunc is part of protocol.Switch.
func (m *mux) AddHandlerWithFunc(protocol.ID, func(protocol.ID) bool, protocol.HandlerFunc) {}

// RemoveHandler is part of protocol.Switch.
func (m *mux) RemoveHandler(p protocol.ID) { m.remove(p) }

// Negotiate is part of protocol.Switch.
func (m *mux) Negotiate(io.ReadWriteCloser) (protocol.ID, protocol.HandlerFunc, error) {
	return "", nil, errNoMux
}

// Handle is part of protocol.Switch.
func (m *mux) Handle(io.ReadWriteCloser) error { return errNoMux }
