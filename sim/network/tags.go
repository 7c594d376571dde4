package network

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Trimming as libp2p's connection manager does it, with the overlay's settings.
const (
	trimGrace   = 30 * time.Second // a new connection is left alone
	trimSilence = 10 * time.Second // between two trims
)

// connManager keeps the peers' tags and closes the connections of least value when there are too many.
type connManager struct {
	h *Host

	mu      sync.Mutex
	tags    map[peer.ID][]tag // guarded by mu
	trimmed int64             // guarded by mu: when last
}

type tag struct {
	name    string
	value   int
	protect bool
}

var _ connmgr.ConnManager = (*connManager)(nil)

// update lets f change the tag of a name, or takes it away.
func (m *connManager) update(p peer.ID, name string, protect bool, f func(t *tag) (keep bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.tags[p]
	i := slices.IndexFunc(list, func(t tag) bool { return t.name == name && t.protect == protect })
	if i < 0 {
		t := tag{name: name, protect: protect}
		if f(&t) {
			if m.tags == nil {
				m.tags = map[peer.ID][]tag{}
			}
			m.tags[p] = append(list, t)
		}
		return
	}
	if f(&list[i]) {
		return
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(m.tags, p)
	} else {
		m.tags[p] = list
	}
}

// TagPeer is part of connmgr.ConnManager.
func (m *connManager) TagPeer(p peer.ID, name string, v int) {
	m.update(p, name, false, func(t *tag) bool { t.value = v; return true })
}

// UntagPeer is part of connmgr.ConnManager.
func (m *connManager) UntagPeer(p peer.ID, name string) {
	m.update(p, name, false, func(*tag) bool { return false })
}

// UpsertTag is part of connmgr.ConnManager.
func (m *connManager) UpsertTag(p peer.ID, name string, upsert func(int) int) {
	m.update(p, name, false, func(t *tag) bool { t.value = upsert(t.value); return true })
}

// Protect is part of connmgr.ConnManager.
func (m *connManager) Protect(p peer.ID, name string) {
	m.update(p, name, true, func(*tag) bool { return true })
}

// Unprotect is part of connmgr.ConnManager.
func (m *connManager) Unprotect(p peer.ID, name string) bool {
	m.update(p, name, true, func(*tag) bool { return false })
	return m.IsProtected(p, "")
}

// IsProtected is part of connmgr.ConnManager; an empty name means any.
func (m *connManager) IsProtected(p peer.ID, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.tags[p], func(t tag) bool { return t.protect && (name == "" || t.name == name) })
}

// GetTagInfo is part of connmgr.ConnManager.
func (m *connManager) GetTagInfo(p peer.ID) *connmgr.TagInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	info := &connmgr.TagInfo{Tags: map[string]int{}}
	for _, t := range m.tags[p] {
		if !t.protect {
			info.Tags[t.name] = t.value
			info.Value += t.value
		}
	}
	return info
}

// TrimOpenConns is part of connmgr.ConnManager.
func (m *connManager) TrimOpenConns(context.Context) { m.trim() }

func (m *connManager) trim() {
	h, now := m.h, m.h.net.wheel.now()
	m.mu.Lock()
	if m.trimmed != 0 && now-m.trimmed < int64(trimSilence) {
		m.mu.Unlock()
		return
	}
	m.trimmed = now
	m.mu.Unlock()
	list := h.connections()
	excess := len(list) - h.net.c.ConnLow
	value := map[*conn]int{}
	list = slices.DeleteFunc(list, func(c *conn) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, t := range m.tags[c.far.id] {
			if t.protect {
				return true
			}
			value[c] += t.value
		}
		return now-c.opened < int64(trimGrace)
	})
	slices.SortFunc(list, func(a, b *conn) int {
		return cmp.Or(cmp.Compare(value[a], value[b]), cmp.Compare(a.opened, b.opened), strings.Compare(string(a.far.id), string(b.far.id)))
	})
	for i := 0; i < excess && i < len(list); i++ {
		list[i].close()
	}
}

// Notifee is part of connmgr.ConnManager.
func (m *connManager) Notifee() network.Notifiee { return &network.NotifyBundle{} }

// CheckLimit is part of connmgr.ConnManager.
func (m *connManager) CheckLimit(connmgr.GetConnLimiter) error { return nil }

// Close is part of connmgr.ConnManager.
func (m *connManager) Close() error { return nil }
