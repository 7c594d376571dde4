package edge

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	// UsersFile is the name of the user store in the data directory.
	UsersFile = "users.json"

	usersVersion  = 1
	maxUsersBytes = 4 << 20 // about 8,000 users
	maxPassword   = 256
	// reloadEvery is how often the file is looked at for a change made by `p2psip user add`: a stat call a second costs
	// nothing, and a person does not wait longer than that between adding a user and setting up the phone.
	reloadEvery = time.Second
	// DefaultMaxUsers bounds the users of one node: a node serves a household or an office.
	DefaultMaxUsers = 1000
)

// Errors of the user store.
var (
	ErrUserExists = errors.New("there is such a user already")
	ErrNoUser     = errors.New("there is no such user")
	ErrTooMany    = errors.New("too many")
)

// User is one entry of the user store: somebody whose phones may authenticate. The user part is in canonical form
// (overlay.AOR.User).
type User struct {
	Name    string    `json:"user"`
	Created time.Time `json:"created"`
	Digest  Digest    `json:"digest,omitempty"`
	// HA1 holds H(username ":" realm ":" password) in lower-case hex, by "<algorithm> <username>". Phones differ in what
	// they put into username, so there is a value for "alice" and one for "alice@p2psip.example".
	HA1 map[string]string `json:"ha1"`
}

// secret gives the HA1 for an algorithm and the username exactly as the phone wrote it.
func (u User) secret(alg algorithm, username string) (string, bool) {
	s, ok := u.HA1[string(alg)+" "+username]
	return s, ok
}

// offers gives the algorithms that the user may authenticate with, the preferred one first.
func (u User) offers() []algorithm { return u.Digest.algorithms() }

// has says that there is a secret for an algorithm.
func (u User) has(alg algorithm) bool {
	for key := range u.HA1 {
		if strings.HasPrefix(key, string(alg)+" ") {
			return true
		}
	}
	return false
}

// newUser derives what is stored from the clear password, which is not kept. For an algorithm that the user does not use
// there is nothing: whoever steals the file of a SHA-256 user gets no MD5 value to work on.
func newUser(aor overlay.AOR, password string, digest Digest, now time.Time) User {
	u := User{Name: aor.User(), Created: now.UTC().Truncate(time.Second), Digest: digest, HA1: map[string]string{}}
	for _, username := range []string{aor.User(), aor.User() + "@" + aor.Host().String()} {
		for _, alg := range digest.algorithms() {
			u.HA1[string(alg)+" "+username] = alg.hash(username + ":" + aor.Host().String() + ":" + password)
		}
	}
	return u
}

// usersDoc is the file: {"version":1,"realm":"p2psip.example","users":[...]}.
type usersDoc struct {
	Version int        `json:"version"`
	Realm   overlay.ID `json:"realm"`
	Users   []User     `json:"users"`
}

// UserStore is users.json: the users of one node and their digest secrets for one realm, the overlay identifier. Several
// processes may use one file: the command line writes, the running node notices. Methods are safe for concurrent use.
type UserStore struct {
	path  string
	realm overlay.ID
	max   int
	now   func() time.Time

	mu      sync.Mutex      // guards what follows
	users   map[string]User // by Name
	seen    fs.FileInfo     // the version in users; nil: there was no file
	checked time.Time
	err     error // why the present file is not used; users is the last good one
}

// OpenUsers opens the user store in a data directory; without one ("") the store is empty for ever. A missing file is an
// empty store. A file that cannot be used is an error here, at the start; once open, a store keeps the last good content
// and reports the error through Err.
func OpenUsers(dataDir string, realm overlay.ID) (*UserStore, error) {
	s := &UserStore{realm: realm, max: DefaultMaxUsers, now: time.Now}
	if dataDir == "" {
		return s, nil
	}
	s.path = filepath.Join(dataDir, UsersFile)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reload()
	if s.err != nil {
		return nil, s.err
	}
	return s, nil
}

// Add stores a user with a password and the algorithms to check it by. The user part may be escaped as in a URI. It fails
// with ErrUserExists, ErrTooMany, or overlay.ErrBadAOR for a name that cannot be the user part of a SIP URI.
func (s *UserStore) Add(name, password string, digest Digest) error {
	aor, err := s.realm.AOR(name)
	if err != nil {
		return err
	}
	if digest, err = ParseDigest(string(digest)); err != nil {
		return err
	}
	switch {
	case password == "":
		return errors.New("the password is empty")
	case len(password) > maxPassword:
		return fmt.Errorf("the password has %d bytes, %d are allowed", len(password), maxPassword)
	case strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("the password has a control character, which no phone can enter")
	}
	return s.update(func(users []User) ([]User, error) {
		if slices.ContainsFunc(users, func(u User) bool { return u.Name == aor.User() }) {
			return nil, fmt.Errorf("%s: %w", aor, ErrUserExists)
		}
		if len(users) >= s.max {
			return nil, fmt.Errorf("%w users: %d are allowed", ErrTooMany, s.max)
		}
		return append(users, newUser(aor, password, digest, s.now())), nil
	})
}

// Remove deletes a user; ErrNoUser if there is none. Phones already registered stay until their registration runs out.
func (s *UserStore) Remove(name string) error {
	aor, err := s.realm.AOR(name)
	if err != nil {
		return err
	}
	return s.update(func(users []User) ([]User, error) {
		i := slices.IndexFunc(users, func(u User) bool { return u.Name == aor.User() })
		if i < 0 {
			return nil, fmt.Errorf("%s: %w", aor, ErrNoUser)
		}
		return slices.Delete(users, i, i+1), nil
	})
}

// List gives the users, sorted by name.
func (s *UserStore) List() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	return s.sorted()
}

// Lookup finds a user by the canonical user part.
func (s *UserStore) Lookup(name string) (User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	u, ok := s.users[name]
	return u, ok
}

// Err says why the file as it is now is not used, nil if it is.
func (s *UserStore) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	return s.err
}

func (s *UserStore) sorted() []User {
	list := make([]User, 0, len(s.users))
	for _, u := range s.users {
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// update changes the file under a lock that other processes respect, starting from what the file holds now.
func (s *UserStore) update(change func([]User) ([]User, error)) error {
	if s.path == "" {
		return errors.New("users cannot be added without a data directory")
	}
	lock := flock.New(s.path + ".lock")
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("cannot lock %s: %w", s.path, err)
	}
	defer lock.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reload()
	if s.err != nil {
		return s.err // never write over a file that somebody has to look at first
	}
	users, err := change(s.sorted())
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(usersDoc{Version: usersVersion, Realm: s.realm, Users: users}, "", "  ")
	if err != nil {
		return err
	}
	if err := datadir.WriteFile(s.path, append(b, '\n'), 0o600); err != nil {
		return err
	}
	s.reload()
	return s.err
}

// refresh reads the file again if it changed since, looking at most once in reloadEvery.
func (s *UserStore) refresh() {
	if s.path == "" {
		return
	}
	now := s.now()
	if d := now.Sub(s.checked); d >= 0 && d < reloadEvery {
		return
	}
	s.checked = now
	st, err := os.Stat(s.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.err = fmt.Errorf("cannot read the users: %w", err)
		return
	}
	if err != nil && s.seen == nil && s.err == nil {
		return
	}
	if err == nil && s.seen != nil && os.SameFile(st, s.seen) && st.Size() == s.seen.Size() && st.ModTime().Equal(s.seen.ModTime()) {
		return
	}
	s.reload()
}

// reload reads the file. On an error it sets err and leaves users as they were.
func (s *UserStore) reload() {
	s.checked = s.now()
	st, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		s.users, s.seen, s.err = map[string]User{}, nil, nil
		return
	}
	if err != nil {
		s.err = fmt.Errorf("cannot read the users: %w", err)
		return
	}
	s.seen = st // also of a bad file: it is not read again before it changes
	b, err := datadir.ReadFile(s.path, maxUsersBytes)
	if err != nil {
		s.err = fmt.Errorf("cannot read the users: %w", err)
		return
	}
	users, err := parseUsers(b, s.realm, s.max)
	if err != nil {
		s.err = fmt.Errorf("%s: %w", s.path, err)
		return
	}
	s.users, s.err = users, nil
}

// parseUsers reads the file's content. It was written by this program or by hand, so that every mistake is named.
func parseUsers(b []byte, realm overlay.ID, max int) (map[string]User, error) {
	var doc usersDoc
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("not a user store: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("not a user store: something follows the closing brace")
	}
	if doc.Version != usersVersion {
		return nil, fmt.Errorf("version %d, this program reads version %d", doc.Version, usersVersion)
	}
	if doc.Realm != realm {
		return nil, fmt.Errorf("it belongs to the overlay %q, not to %q: passwords are bound to the overlay, add the users again", doc.Realm, realm)
	}
	if len(doc.Users) > max {
		return nil, fmt.Errorf("%w users: %d, %d are allowed", ErrTooMany, len(doc.Users), max)
	}
	users := make(map[string]User, len(doc.Users))
	for i, u := range doc.Users {
		aor, err := realm.AOR(u.Name)
		if err != nil {
			return nil, fmt.Errorf("user %d: %w", i+1, err)
		}
		if aor.User() != u.Name {
			return nil, fmt.Errorf("user %d: write %q as %q", i+1, u.Name, aor.User())
		}
		if _, twice := users[u.Name]; twice {
			return nil, fmt.Errorf("user %q is listed twice", u.Name)
		}
		for key, ha1 := range u.HA1 {
			alg, _, _ := strings.Cut(key, " ")
			if !slices.Contains(algorithms, algorithm(alg)) {
				return nil, fmt.Errorf("user %q: %q names no digest algorithm known here", u.Name, key)
			}
			if raw, err := hex.DecodeString(ha1); err != nil || len(raw) != algorithm(alg).size() || ha1 != strings.ToLower(ha1) {
				return nil, fmt.Errorf("user %q: the value for %q is not %d lower-case hex digits", u.Name, key, 2*algorithm(alg).size())
			}
		}
		if u.Digest, err = ParseDigest(string(u.Digest)); err != nil {
			return nil, fmt.Errorf("user %q: %w", u.Name, err)
		}
		if !slices.ContainsFunc(u.offers(), u.has) {
			return nil, fmt.Errorf("user %q has no secret for a digest algorithm he may use; remove and add the user again", u.Name)
		}
		users[u.Name] = u
	}
	return users, nil
}

// Digest says which algorithms a user's phones may use.
type Digest string

const (
	DigestBoth   Digest = ""       // SHA-256, and MD5 for phones that know no better
	DigestMD5    Digest = "md5"    // for a phone that gives up when it is offered anything else
	DigestSHA256 Digest = "sha256" // MD5 is neither offered nor taken
)

// ParseDigest reads "md5", "sha256", and "both" or "".
func ParseDigest(s string) (Digest, error) {
	switch d := Digest(s); d {
	case DigestBoth, DigestMD5, DigestSHA256:
		return d, nil
	case "both":
		return DigestBoth, nil
	}
	return "", fmt.Errorf("there is no digest %q; md5, sha256 and both are known", clip(s))
}

func (d Digest) algorithms() []algorithm {
	switch d {
	case DigestMD5:
		return []algorithm{algMD5}
	case DigestSHA256:
		return []algorithm{algSHA256}
	}
	return algorithms
}

// algorithm is a digest algorithm by its name in SIP (RFC 8760 §2.1).
type algorithm string

const (
	algSHA256 algorithm = "SHA-256"
	algMD5    algorithm = "MD5"
)

// algorithms in the order of preference in which they are offered (RFC 8760 §2.4): phones take the first they know.
var algorithms = []algorithm{algSHA256, algMD5}

// hash gives H(s) in lower-case hex.
func (a algorithm) hash(s string) string {
	if a == algSHA256 {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	h := md5.Sum([]byte(s))
	return hex.EncodeToString(h[:])
}

func (a algorithm) size() int {
	if a == algSHA256 {
		return sha256.Size
	}
	return md5.Size
}
