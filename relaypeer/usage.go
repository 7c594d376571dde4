package relaypeer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"p2psip/overlay/datadir"
)

// maxUsageFile bounds what is read: some 70 bytes for each of 4,096 members.
const maxUsageFile = 1 << 20

// usage is what is kept of a month, as JSON.
type usage struct {
	Month   string           `json:"month"` // "2026-11", of UTC
	Bytes   int64            `json:"bytes"` // of data relayed, in all
	Members map[string]int64 `json:"members"`
}

// load takes up where an earlier run has ended. No such file, or another month, is a fresh start; so is a damaged file, which
// err tells of.
func (m *members) load(file string, now time.Time) error {
	b, err := datadir.ReadFile(file, maxUsageFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var u usage
	if err == nil {
		err = json.Unmarshal(b, &u)
	}
	if err != nil {
		return fmt.Errorf("what was relayed this month so far, in %s, is not known: %w", file, err)
	}
	if u.Month != monthOf(now) || u.Bytes < 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes.Store(u.Bytes)
	for name, n := range u.Members {
		if e := m.get(name, now.Add(-time.Hour)); e != nil && n > 0 {
			e.bytes.Store(n)
		}
	}
	return nil
}

// save writes what was relayed this month.
func (m *members) save(file string) error {
	m.mu.Lock()
	u := usage{Month: m.month, Bytes: m.bytes.Load(), Members: map[string]int64{}}
	for name, e := range m.table {
		if n := e.bytes.Load(); n > 0 {
			u.Members[name] = n
		}
	}
	m.mu.Unlock()
	b, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if err := datadir.WriteFile(file, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("what was relayed this month cannot be kept: %w", err)
	}
	return nil
}
