package dnsreg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Notes are what a zone holds of registrars: the records that are theirs, and who has changed them last.
type Notes struct {
	Serial uint64 // of changes by registrars; not that of the zone
	By     string // "": nobody yet
	Own    []dns.RR
}

// Backend makes a zone what it should be.
type Backend interface {
	// Reconcile reads what of the zone is registrars', asks want what should be there instead, and makes it so. An error of
	// want's is given as it is, and then nothing is changed.
	Reconcile(ctx context.Context, want func(Notes) ([]dns.RR, error)) (Change, error)
}

var (
	_ Backend = (*Updater)(nil)
	_ Backend = (*Authority)(nil)
	_ Backend = (*ZoneFile)(nil)
	_ Backend = (*DryRun)(nil)
)

// Reconcile implements Backend: the zone is this server's own.
func (a *Authority) Reconcile(_ context.Context, want func(Notes) ([]dns.RR, error)) (Change, error) {
	own := a.Records()
	records, err := want(Notes{Own: own})
	if err != nil {
		return Change{}, err
	}
	var c Change
	c.Added, c.Removed = difference(own, records)
	return c, a.Publish(records)
}

// Records gives what was published last.
func (a *Authority) Records() []dns.RR {
	a.mu.Lock()
	text := a.text
	a.mu.Unlock()
	records, _ := ParseRecords(text) // which this program has written
	return records
}

// FormatRecords writes records as a zone file has them, one a line.
func FormatRecords(records []dns.RR) string {
	var b strings.Builder
	for _, rr := range records {
		b.WriteString(rr.String() + "\n")
	}
	return b.String()
}

// ParseRecords reads what FormatRecords has written.
func ParseRecords(text string) (out []dns.RR, err error) {
	p := dns.NewZoneParser(strings.NewReader(text), ".", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		out = append(out, rr)
	}
	return out, p.Err()
}

// ZoneFile writes the records to a file, for those who edit a zone by hand or have it included ($INCLUDE). The file is replaced in
// one step, and only if something in it changes.
type ZoneFile struct{ Path string }

const zoneFileHead = "; The proxy peers of the overlay, kept by p2psip dns. Changes made here by hand are lost.\n"

// Reconcile implements Backend.
func (z *ZoneFile) Reconcile(_ context.Context, want func(Notes) ([]dns.RR, error)) (Change, error) {
	b, err := os.ReadFile(z.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Change{}, fmt.Errorf("the zone file: %w", err)
	}
	if len(b) > 0 && !strings.HasPrefix(string(b), zoneFileHead) {
		return Change{}, fmt.Errorf("%w: %s is somebody's own file", ErrForeign, z.Path)
	}
	own, err := ParseRecords(string(b))
	if err != nil {
		own = nil // it is written anew
	}
	records, err := want(Notes{Own: own})
	if err != nil {
		return Change{}, err
	}
	var c Change
	c.Added, c.Removed = difference(own, records)
	if len(c.Added)+len(c.Removed) == 0 && len(b) > 0 {
		return c, nil
	}
	f, err := os.CreateTemp(filepath.Dir(z.Path), filepath.Base(z.Path)+".*")
	if err != nil {
		return Change{}, fmt.Errorf("the zone file: %w", err)
	}
	_, err = f.WriteString(zoneFileHead + FormatRecords(records))
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), z.Path)
	}
	if err != nil {
		os.Remove(f.Name())
		return Change{}, fmt.Errorf("the zone file: %w", err)
	}
	return c, nil
}

// DryRun changes nothing; it remembers what it would have changed.
type DryRun struct {
	mu  sync.Mutex
	own []dns.RR // guarded by mu
}

// Reconcile implements Backend.
func (d *DryRun) Reconcile(_ context.Context, want func(Notes) ([]dns.RR, error)) (Change, error) {
	d.mu.Lock()
	own := d.own
	d.mu.Unlock()
	records, err := want(Notes{Own: own})
	if err != nil {
		return Change{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.own = records
	var c Change
	c.Added, c.Removed = difference(own, records)
	return c, nil
}
