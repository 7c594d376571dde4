package policy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// FileName is the policy's name in the data directory of a proxy peer.
const FileName = "federation.toml"

// WatchEvery is how often Watch looks at the file.
const WatchEvery = 2 * time.Second

// File is a policy in a file that may change while calls are under way. A call keeps the decision that it was let through
// with; only new requests see a new policy.
type File struct {
	path    string
	current atomic.Pointer[Policy]

	mu      sync.Mutex
	changed time.Time         // guarded by mu: of what was read last, good or bad
	size    int64             // guarded by mu
	sum     [sha256.Size]byte // guarded by mu
	parsed  error             // guarded by mu: what is wrong with the content of that sum
	exists  bool              // guarded by mu: there was a file once
	bad     error             // guarded by mu: why the file as it is now is not in force
}

// Open reads the policy at path. If there is no file, everything is allowed, until there is one. A bad file is an error.
func Open(path string) (*File, error) {
	f := &File{path: path}
	f.current.Store(&Policy{})
	if _, err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Fixed is a policy that never changes.
func Fixed(p *Policy) *File {
	f := &File{}
	f.current.Store(p)
	return f
}

// Policy gives the policy in force.
func (f *File) Policy() *Policy { return f.current.Load() }

// Err says why the file as it is now is not in force; nil if it is.
func (f *File) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bad
}

// Exists says that there is, or was, a file.
func (f *File) Exists() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.exists
}

// Reload reads the file now, whether or not it looks changed. A file that is bad, or gone after it was there, changes
// nothing: the policy before stays in force whole.
func (f *File) Reload() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read()
}

// Poll reads the file if it looks changed: by its time and size. It is Reload for a ticker; a bad file is told of once.
func (f *File) Poll() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !f.exists:
		return false, nil
	case err == nil && f.exists && info.ModTime().Equal(f.changed) && info.Size() == f.size:
		return false, nil
	}
	before := f.bad
	changed, err = f.read()
	if err != nil && before != nil && err.Error() == before.Error() {
		return false, nil
	}
	return changed, err
}

// read does the work; mu is held.
func (f *File) read() (changed bool, err error) {
	if f.path == "" {
		return false, nil
	}
	defer func() { f.bad = err }()
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) && !f.exists {
		return false, nil
	}
	if err != nil {
		f.changed = time.Time{} // look again when it is back
		return false, fmt.Errorf("read the federation policy: %w; the policy before stays in force", err)
	}
	if info.Size() > maxFile {
		return false, fmt.Errorf("%s: larger than %d octets", f.path, maxFile)
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return false, fmt.Errorf("read the federation policy: %w", err)
	}
	sum := sha256.Sum256(b)
	same := f.exists && bytes.Equal(sum[:], f.sum[:])
	f.exists, f.changed, f.size, f.sum = true, info.ModTime(), info.Size(), sum
	if same {
		return false, f.parsed // touched only
	}
	p, err := Parse(b)
	if err != nil {
		f.parsed = fmt.Errorf("%s: %w", f.path, err)
		return false, f.parsed
	}
	f.parsed = nil
	f.current.Store(p)
	return true, nil
}

// Watch polls the file until ctx ends and tells what came of each change: nil for a new policy in force.
func (f *File) Watch(ctx context.Context, every time.Duration, tell func(error)) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if changed, err := f.Poll(); changed || err != nil {
				tell(err)
			}
		}
	}
}
