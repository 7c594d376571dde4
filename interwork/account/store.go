package account

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"p2psip/overlay"
	"p2psip/overlay/datadir"
)

const (
	// File is the name of the accounts in the data directory.
	File = "accounts.json"

	fileVersion  = 1
	maxFileBytes = 1 << 20
	// MaxAccounts bounds the accounts of a node: a household's, or an office's.
	MaxAccounts = 64
)

// Errors of the store.
var (
	ErrExists    = errors.New("there is such an account already")
	ErrNoAccount = errors.New("there is no such account")
	// ErrFile is wrapped by every error about the file as it is.
	ErrFile = errors.New("the accounts cannot be read")
)

// document is the file: {"version":1,"overlay":"p2psip.example","accounts":[…]}.
type document struct {
	Version  int        `json:"version"`
	Overlay  overlay.ID `json:"overlay"`
	Accounts []Account  `json:"accounts"`
}

// Store is the accounts in a data directory. Several processes may use one: the running node reads, `p2psip account`
// writes. Its methods are safe for concurrent use.
type Store struct {
	path string
	oid  overlay.ID

	mu   sync.Mutex // guards what follows
	list []Account
	seen fs.FileInfo // of the file as it was read; nil: there was none
	err  error       // why the present file is not used; list is the last good one
}

// Open reads the accounts in a data directory; none is no error. A file that cannot be used is.
func Open(dir string, oid overlay.ID) (*Store, error) {
	s := &Store{path: filepath.Join(dir, File), oid: oid}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read()
	return s, s.err
}

// Fixed makes a store of these accounts, which no file holds and nobody changes.
func Fixed(oid overlay.ID, list ...Account) (*Store, error) {
	s := &Store{oid: oid}
	for _, a := range list {
		if err := a.Check(oid); err != nil {
			return nil, err
		}
		s.list = append(s.list, a)
	}
	slices.SortFunc(s.list, func(a, b Account) int { return strings.Compare(a.AOR, b.AOR) })
	return s, nil
}

// errFixed: the accounts are in no file.
var errFixed = errors.New("accounts cannot be changed without a data directory")

// List gives the accounts, sorted by address, and what is wrong with the file if it cannot be used as it is now. The file
// is read again when it has changed.
func (s *Store) List() ([]Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path == "" {
		return slices.Clone(s.list), nil
	}
	st, err := os.Stat(s.path)
	switch {
	case err != nil && s.seen == nil && s.err == nil:
	case err == nil && s.seen != nil && os.SameFile(st, s.seen) && st.Size() == s.seen.Size() && st.ModTime().Equal(s.seen.ModTime()):
	default:
		s.read()
	}
	return slices.Clone(s.list), s.err
}

// Find gives one account by its address.
func (s *Store) Find(aor string) (Account, error) {
	list, err := s.List()
	if err != nil {
		return Account{}, err
	}
	u, err := ParseAddress(aor)
	if err != nil {
		return Account{}, fmt.Errorf("%w: %w", ErrBadAccount, err)
	}
	i := slices.IndexFunc(list, func(a Account) bool { return a.AOR == u.String() })
	if i < 0 {
		return Account{}, fmt.Errorf("%w: %s", ErrNoAccount, u.String())
	}
	return list[i], nil
}

// Add checks an account and puts it in. One user has at most one account without a prefix for all calls, and no two
// accounts with one prefix.
func (s *Store) Add(a Account) error {
	if err := a.Check(s.oid); err != nil {
		return err
	}
	return s.update(func(list []Account) ([]Account, error) { return append(list, a), nil })
}

// Remove takes an account out and gives it.
func (s *Store) Remove(aor string) (Account, error) {
	a, err := s.Find(aor)
	if err != nil {
		return a, err
	}
	return a, s.update(func(list []Account) ([]Account, error) {
		n := len(list)
		list = slices.DeleteFunc(list, func(o Account) bool { return o.AOR == a.AOR })
		if len(list) == n {
			return nil, fmt.Errorf("%w: %s", ErrNoAccount, a.AOR)
		}
		return list, nil
	})
}

// update changes the file under a lock that other processes respect, starting from what it holds now.
func (s *Store) update(change func([]Account) ([]Account, error)) error {
	if s.path == "" {
		return errFixed
	}
	lock := flock.New(s.path + ".lock")
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("cannot lock %s: %w", s.path, err)
	}
	defer lock.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read()
	if s.err != nil {
		return s.err // never write over a file that somebody has to look at first
	}
	list, err := change(slices.Clone(s.list))
	if err != nil {
		return err
	}
	if err := s.together(list); err != nil {
		return err
	}
	b, err := json.MarshalIndent(document{Version: fileVersion, Overlay: s.oid, Accounts: list}, "", "  ")
	if err != nil {
		return err
	}
	if err := datadir.WriteFile(s.path, append(b, '\n'), 0o600); err != nil {
		return err
	}
	s.read()
	return s.err
}

// together checks what the accounts have to be beside one another, and sorts them.
func (s *Store) together(list []Account) error {
	if len(list) > MaxAccounts {
		return fmt.Errorf("%w: %d accounts, %d are allowed", ErrBadAccount, len(list), MaxAccounts)
	}
	slices.SortFunc(list, func(a, b Account) int { return strings.Compare(a.AOR, b.AOR) })
	for i := range list {
		a := &list[i]
		for j := range i {
			b := &list[j]
			switch {
			case a.AOR == b.AOR:
				return fmt.Errorf("%w: %s", ErrExists, a.AOR)
			case a.User != b.User:
			case a.Default && b.Default:
				return fmt.Errorf("%w: %s and %s are both for all calls of %s", ErrBadAccount, b.AOR, a.AOR, a.User)
			case a.Prefix != "" && b.Prefix != "" && (strings.HasPrefix(a.Prefix, b.Prefix) || strings.HasPrefix(b.Prefix, a.Prefix)):
				return fmt.Errorf("%w: the prefixes %s of %s and %s of %s cannot be told apart", ErrBadAccount, b.Prefix, b.AOR, a.Prefix, a.AOR)
			}
		}
	}
	return nil
}

// read reads the file. On an error it sets err and leaves list as it was. Callers hold mu.
func (s *Store) read() {
	st, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		s.list, s.seen, s.err = nil, nil, nil
		return
	}
	if err != nil {
		s.err = fmt.Errorf("%w: %w", ErrFile, err)
		return
	}
	s.seen = st // also of a bad file: it is not read again before it changes
	if st.Mode().Perm()&0o077 != 0 {
		s.err = fmt.Errorf("%w: %s holds passwords and is open to others; make it private with: chmod 600 %s", ErrFile, s.path, s.path)
		return
	}
	b, err := datadir.ReadFile(s.path, maxFileBytes)
	if err != nil {
		s.err = fmt.Errorf("%w: %w", ErrFile, err)
		return
	}
	list, err := s.parse(b)
	if err != nil {
		s.err = fmt.Errorf("%w: %s: %w", ErrFile, s.path, err)
		return
	}
	s.list, s.err = list, nil
}

func (s *Store) parse(b []byte) ([]Account, error) {
	var doc document
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("not a file of accounts: %w", err)
	}
	if doc.Version != fileVersion {
		return nil, fmt.Errorf("version %d, this program reads version %d", doc.Version, fileVersion)
	}
	if doc.Overlay != s.oid {
		return nil, fmt.Errorf("it belongs to the overlay %q, not to %q; move it away and add the accounts again", doc.Overlay, s.oid)
	}
	for i := range doc.Accounts {
		if err := doc.Accounts[i].Check(s.oid); err != nil {
			return nil, fmt.Errorf("account %d: %w", i+1, err)
		}
	}
	return doc.Accounts, s.together(doc.Accounts)
}

// sighting is what an account's provider asked when it last let the account in.
type sighting struct {
	Realms []string  `json:"realms"`
	SHA256 bool      `json:"sha256"` // it offered SHA-256
	When   time.Time `json:"when"`
}

// maxRealms bounds the realms of one provider: its registrar's and its proxies'.
const maxRealms = 4

const seenFile = "accounts.seen.json"

// loadSeen reads what was seen; a file that makes no sense is forgotten.
func loadSeen(dir string) map[string]sighting {
	m := map[string]sighting{}
	if dir == "" {
		return m
	}
	b, err := datadir.ReadFile(filepath.Join(dir, seenFile), maxFileBytes)
	if err != nil || json.Unmarshal(b, &m) != nil {
		return map[string]sighting{}
	}
	return m
}

func saveSeen(dir string, m map[string]sighting) error {
	if dir == "" {
		return nil
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return datadir.WriteFile(filepath.Join(dir, seenFile), append(b, '\n'), 0o600)
}
