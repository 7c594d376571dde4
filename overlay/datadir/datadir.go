// Package datadir keeps what a node must not lose: its key, its credential, the overlay document, the phones' bindings.
//
// Every file is replaced as a whole: written beside its target, flushed to the disk, renamed over it, and the directory
// flushed too. A process that is killed at any moment leaves either the old content or the new one, and a reader never
// sees half of either. Nothing here knows what the files mean.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// tempMark is in the name of every file under way, so that left-overs can be told from content.
const tempMark = ".new-"

// ErrLocked says that another process uses the directory.
var ErrLocked = errors.New("the data directory is in use by another process")

// Dir is an open data directory, held by one process.
type Dir struct {
	path string
	lock *flock.Flock
}

// Open makes the directory if need be (mode 0700), takes the lock on it and removes what a killed process left half
// written. Close gives the lock back.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	l := flock.New(filepath.Join(path, "lock"))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	}
	if err := sweep(path); err != nil {
		l.Unlock()
		return nil, err
	}
	return &Dir{path: path, lock: l}, nil
}

// Path gives the path of a file in the directory.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Close gives the lock back.
func (d *Dir) Close() error { return d.lock.Unlock() }

func sweep(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("reading the data directory: %w", err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), tempMark) {
			if err := os.Remove(filepath.Join(path, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("removing a left-over file: %w", err)
			}
		}
	}
	return nil
}

// WriteFile replaces the file at path by data, whole or not at all.
func WriteFile(path string, data []byte, perm fs.FileMode) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+base+tempMark+"*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// ReadFile reads a file of at most limit bytes; more is an error, so that a mistaken path costs nothing.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("reading %s: it is larger than %d bytes, which this file never is", path, limit)
	}
	return b, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
