package overlay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	record "github.com/libp2p/go-libp2p-record"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"google.golang.org/protobuf/proto"
)

// What one node stores of others' roles, at most; users' records have a budget of their own.
const (
	maxRoleKeys     = 1024
	maxRoleBytes    = 8 << 20
	maxKeysOfSigner = 64 // keys under which one node's advertisements are stored
)

// roleValidator is what every node of the overlay applies to every set of advertisements, whether it is asked to store it or
// got it as an answer.
type roleValidator struct{ v *advertVerifier }

var _ record.Validator = roleValidator{}

// Validate refuses a value that is not a set of current and properly signed advertisements of the role that the key stands
// for.
func (r roleValidator) Validate(key string, value []byte) error {
	k, err := parseRoleKey(key, r.v.doc.ID)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadAdvert, err)
	}
	s, err := r.v.set(value, false)
	if err != nil {
		return err
	}
	return k.check(s)
}

// check refuses a set that belongs under another key.
func (k roleKey) check(s adverts) error {
	if s[0].Role != k.role {
		return fmt.Errorf("%w: the role %s is stored under the key of another", ErrBadAdvert, s[0].Role)
	}
	if k.node != "" && (len(s) != 1 || s[0].Node != k.node) {
		return fmt.Errorf("%w: it is stored under another node's key", ErrBadAdvert)
	}
	return nil
}

// Select says which of several values to keep: the first that adds something to those after it. Values that both add
// something are merged by the store, so which of them it was does not matter. What would not stay, because the set is full
// and others come first, is refused like what is old, so that who wrote it knows.
func (r roleValidator) Select(key string, values [][]byte) (int, error) {
	k, err := parseRoleKey(key, r.v.doc.ID)
	if err != nil {
		return 0, err
	}
	now := r.v.now()
	var best adverts
	at := -1
	for i := len(values) - 1; i >= 0; i-- {
		s, err := r.v.set(values[i], true)
		if err != nil {
			continue
		}
		if at < 0 || !mergeAdverts(k, best, s, now).equal(best) {
			best, at = s, i
		}
	}
	if at < 0 {
		return 0, errors.New("none of the values is a valid set of advertisements")
	}
	return at, nil
}

// roleStore keeps the advertisements this node is responsible for, in memory. Putting merges; expired ones are never given
// out; its size is bounded, and so is what one signer can take of it.
type roleStore struct {
	v *advertVerifier

	read, written atomic.Uint64 // requests of others

	mu    sync.Mutex
	m     map[roleKey]*storedRole // guarded by mu
	keys  map[NodeID]int          // guarded by mu: under how many keys each signer is stored
	bytes int                     // guarded by mu
}

type storedRole struct {
	key     string
	set     adverts
	data    []byte    // recpb.Record as kad-dht wants it
	expires time.Time // of the first in the set to expire
}

func newRoleStore(v *advertVerifier) *roleStore {
	return &roleStore{v: v, m: map[roleKey]*storedRole{}, keys: map[NodeID]int{}}
}

// under gives the set under a key without what has expired, nil if there is none.
func (s *roleStore) under(k roleKey) adverts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.get(k); st != nil {
		return st.set
	}
	return nil
}

// data gives what kad-dht hands out for a DHT key, nil if there is nothing.
func (s *roleStore) data(key string) []byte {
	k, err := parseRoleKey(key, s.v.doc.ID)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.get(k); st != nil && st.key == key {
		return st.data
	}
	return nil
}

// get drops what has expired first; s.mu is held.
func (s *roleStore) get(k roleKey) *storedRole {
	st := s.m[k]
	if st == nil {
		return nil
	}
	now := s.v.now()
	if now.Before(st.expires) {
		return st
	}
	var rest adverts
	for _, a := range st.set {
		if now.Before(a.Expires) {
			rest = append(rest, a)
		}
	}
	if len(rest) == 0 || s.set(k, st.key, rest) != nil {
		s.drop(k)
	}
	return s.m[k]
}

// put merges a set into what is stored under its key.
func (s *roleStore) put(key string, set adverts) error {
	k, err := parseRoleKey(key, s.v.doc.ID)
	if err == nil && k.key(s.v.doc.ID) != key {
		err = errNoRoleKey
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadAdvert, err)
	}
	if err := k.check(set); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var old adverts
	if st := s.get(k); st != nil {
		old = st.set
	}
	merged := mergeAdverts(k, old, set, s.v.now())
	if merged.equal(old) {
		return fmt.Errorf("%w: %w", ErrBadAdvert, ErrStale)
	}
	return s.set(k, key, merged)
}

// set stores a set under a key within the bounds; s.mu is held.
func (s *roleStore) set(k roleKey, key string, set adverts) error {
	value, err := set.encode()
	if err != nil {
		return err
	}
	rec := record.MakePutRecord(key, value)
	rec.TimeReceived = s.v.now().UTC().Format(time.RFC3339Nano)
	data, err := proto.Marshal(rec)
	if err != nil {
		return err
	}
	was, old := 0, s.m[k]
	if old != nil {
		was = len(old.data)
	}
	if old == nil && len(s.m) >= maxRoleKeys || s.bytes-was+len(data) > maxRoleBytes {
		return fmt.Errorf("%w: %d keys of roles, %d bytes", ErrStoreFull, len(s.m), s.bytes)
	}
	for _, a := range set {
		if s.keys[a.Node] >= maxKeysOfSigner && (old == nil || old.set.find(a.Node) == nil) {
			return fmt.Errorf("%w: node %s is under %d keys here already", ErrStoreFull, a.Node, maxKeysOfSigner)
		}
	}
	s.drop(k)
	st := &storedRole{key: key, set: set, data: data, expires: set[0].Expires}
	for _, a := range set {
		if a.Expires.Before(st.expires) {
			st.expires = a.Expires
		}
		s.keys[a.Node]++
	}
	s.m[k] = st
	s.bytes += len(data)
	return nil
}

// drop forgets a key; s.mu is held.
func (s *roleStore) drop(k roleKey) {
	st := s.m[k]
	if st == nil {
		return
	}
	s.bytes -= len(st.data)
	for _, a := range st.set {
		if s.keys[a.Node]--; s.keys[a.Node] <= 0 {
			delete(s.keys, a.Node)
		}
	}
	delete(s.m, k)
}

// delete forgets a DHT key.
func (s *roleStore) delete(key string) {
	if k, err := parseRoleKey(key, s.v.doc.ID); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(k)
	}
}

// sweep forgets what has expired.
func (s *roleStore) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.m {
		s.get(k)
	}
}

// size gives the number of keys and the bytes under them.
func (s *roleStore) size() (keys, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m), s.bytes
}

// stores is the datastore under kad-dht: users' records in one store, roles in another.
type stores struct {
	*store
	roles *roleStore
}

var _ ds.Batching = stores{}

// rolePrefix is how kad-dht's name of every role's key begins: eight characters of base 32 are five bytes.
var rolePrefix = keyEncoding.EncodeToString([]byte("/" + roleNamespace))

// roleKeyOf gives the DHT key behind kad-dht's name for it, if it belongs to a role.
func roleKeyOf(key ds.Key) (string, bool) {
	name := strings.TrimPrefix(key.String(), "/")
	if !strings.HasPrefix(name, rolePrefix) {
		return "", false
	}
	b, err := keyEncoding.DecodeString(name)
	return string(b), err == nil
}

// Get is part of ds.Datastore.
func (s stores) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	k, ok := roleKeyOf(key)
	if !ok {
		return s.store.Get(ctx, key)
	}
	s.roles.read.Add(1)
	if data := s.roles.data(k); data != nil {
		return data, nil
	}
	return nil, ds.ErrNotFound
}

// Put is part of ds.Datastore.
func (s stores) Put(ctx context.Context, key ds.Key, data []byte) error {
	k, ok := roleKeyOf(key)
	if !ok {
		return s.store.Put(ctx, key, data)
	}
	rec := new(recpb.Record)
	if err := proto.Unmarshal(data, rec); err != nil {
		return err
	}
	set, err := s.roles.v.set(rec.GetValue(), true)
	if err != nil {
		return err
	}
	s.roles.written.Add(1)
	return s.roles.put(k, set)
}

// Has is part of ds.Datastore.
func (s stores) Has(ctx context.Context, key ds.Key) (bool, error) {
	_, err := s.Get(ctx, key)
	if errors.Is(err, ds.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// GetSize is part of ds.Datastore.
func (s stores) GetSize(ctx context.Context, key ds.Key) (int, error) {
	b, err := s.Get(ctx, key)
	if err != nil {
		return -1, err
	}
	return len(b), nil
}

// Delete is part of ds.Datastore.
func (s stores) Delete(ctx context.Context, key ds.Key) error {
	k, ok := roleKeyOf(key)
	if !ok {
		return s.store.Delete(ctx, key)
	}
	s.roles.delete(k)
	return nil
}

// Query is part of ds.Datastore; see store.
func (s stores) Query(ctx context.Context, q query.Query) (query.Results, error) {
	return s.store.Query(ctx, q)
}

// Batch is part of ds.Batching.
func (s stores) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(s), nil }
