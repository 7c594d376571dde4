package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	record "github.com/libp2p/go-libp2p-record"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"google.golang.org/protobuf/proto"
)

// What one node stores for the others, at most.
const (
	maxStoredRecords = 20_000
	maxStoredBytes   = 64 << 20
	sweepInterval    = 5 * time.Minute
)

// ErrStoreFull: a node's budget for other people's records is used up.
var ErrStoreFull = errors.New("this node stores as many records as it agreed to")

// store keeps the records this node is responsible for, in memory: their owners publish them again within half an hour,
// so they need not survive a restart. It differs from a plain map in three ways. Putting a record merges it with the one
// that is there, so that two nodes of one user never overwrite each other. Expired entries are never given out. And its
// size is bounded.
//
// kad-dht checks a value with userValidator before it comes here, and calls Get, Select and Put for one key under a lock.
type store struct {
	v *verifier

	mu    sync.Mutex
	m     map[ds.Key]*stored // guarded by mu
	bytes int                // guarded by mu
}

type stored struct {
	data    []byte    // recpb.Record as kad-dht wrote it
	expires time.Time // of the first entry in it to expire
}

var _ ds.Batching = (*store)(nil)

func newStore(v *verifier) *store { return &store{v: v, m: map[ds.Key]*stored{}} }

// Get gives a record without its expired entries.
func (s *store) Get(_ context.Context, key ds.Key) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(key)
}

func (s *store) get(key ds.Key) ([]byte, error) {
	st, ok := s.m[key]
	if !ok {
		return nil, ds.ErrNotFound
	}
	if s.v.now().Before(st.expires) {
		return st.data, nil
	}
	rec, es, err := s.decode(st.data)
	if err != nil {
		s.drop(key)
		return nil, ds.ErrNotFound
	}
	if err := s.set(key, rec, es); err != nil {
		return nil, err
	}
	return s.m[key].data, nil
}

// Put merges data into what is stored under key.
func (s *store) Put(_ context.Context, key ds.Key, data []byte) error {
	rec, es, err := s.decode(data)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, err := s.get(key); err == nil {
		if _, olds, err := s.decode(old); err == nil {
			es = merge(olds, es)
		}
	}
	return s.set(key, rec, es)
}

func (s *store) decode(data []byte) (*recpb.Record, entries, error) {
	rec := new(recpb.Record)
	if err := proto.Unmarshal(data, rec); err != nil {
		return nil, nil, err
	}
	es, err := s.v.record(rec.GetValue(), true)
	return rec, es, err
}

// set stores entries under key, in the wrapping of rec.
func (s *store) set(key ds.Key, rec *recpb.Record, es entries) error {
	value, err := es.encode()
	if err != nil {
		return err
	}
	rec.Value = value
	data, err := proto.Marshal(rec)
	if err != nil {
		return err
	}
	was := 0
	old, ok := s.m[key]
	if ok {
		was = len(old.data)
	}
	if !ok && len(s.m) >= maxStoredRecords || s.bytes-was+len(data) > maxStoredBytes {
		return fmt.Errorf("%w: %d records, %d bytes", ErrStoreFull, len(s.m), s.bytes)
	}
	st := &stored{data: data, expires: es[0].Expires}
	for _, e := range es[1:] {
		if e.Expires.Before(st.expires) {
			st.expires = e.Expires
		}
	}
	s.m[key] = st
	s.bytes += len(data) - was
	return nil
}

func (s *store) drop(key ds.Key) {
	if st, ok := s.m[key]; ok {
		s.bytes -= len(st.data)
		delete(s.m, key)
	}
}

// sweep forgets what has expired; without it nobody would ask for most of it again.
func (s *store) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.v.now()
	for k, st := range s.m {
		if !now.Before(st.expires) {
			s.get(k)
		}
	}
}

// size gives the number of records and their bytes.
func (s *store) size() (records, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m), s.bytes
}

// keys gives the DHT keys of all records stored, in order.
func (s *store) keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]string, 0, len(s.m))
	for k := range s.m {
		if b, err := keyEncoding.DecodeString(k.BaseNamespace()); err == nil {
			out = append(out, string(b))
		}
	}
	slices.Sort(out)
	return out
}

// value gives the record stored under a DHT key as it is handed to others, nil if there is none.
func (s *store) value(key string) []byte {
	data, err := s.Get(context.Background(), dsKey(key))
	if err != nil {
		return nil
	}
	rec, _, err := s.decode(data)
	if err != nil {
		return nil
	}
	return rec.GetValue()
}

// local gives what this node itself stores for a user, nil if nothing.
func (s *store) local(key string) entries {
	data, err := s.Get(context.Background(), dsKey(key))
	if err != nil {
		return nil
	}
	_, es, err := s.decode(data)
	if err != nil {
		return nil
	}
	return es
}

// putLocal stores a value at this node under the same rules that other nodes apply.
func (s *store) putLocal(key string, value []byte) error {
	val := userValidator{s.v}
	if err := val.Validate(key, value); err != nil {
		return err
	}
	if old := s.local(key); old != nil {
		es, err := s.v.record(value, false)
		if err != nil {
			return err
		}
		if !es.adds(old) {
			return fmt.Errorf("%w: %w", ErrBadRecord, ErrStale)
		}
	}
	rec := record.MakePutRecord(key, value)
	rec.TimeReceived = s.v.now().UTC().Format(time.RFC3339Nano)
	data, err := proto.Marshal(rec)
	if err != nil {
		return err
	}
	return s.Put(context.Background(), dsKey(key), data)
}

// dsKey is how kad-dht names a DHT key in its datastore.
func dsKey(key string) ds.Key { return ds.NewKey(keyEncoding.EncodeToString([]byte(key))) }

// Has is part of ds.Datastore.
func (s *store) Has(ctx context.Context, key ds.Key) (bool, error) {
	_, err := s.Get(ctx, key)
	if errors.Is(err, ds.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// GetSize is part of ds.Datastore.
func (s *store) GetSize(ctx context.Context, key ds.Key) (int, error) {
	b, err := s.Get(ctx, key)
	if err != nil {
		return -1, err
	}
	return len(b), nil
}

// Delete is part of ds.Datastore.
func (s *store) Delete(_ context.Context, key ds.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(key)
	return nil
}

// Query is part of ds.Datastore. Only provider records would be queried, and the overlay has none.
func (s *store) Query(_ context.Context, q query.Query) (query.Results, error) {
	return query.ResultsWithEntries(q, nil), nil
}

// Sync is part of ds.Datastore; there is no disk behind it.
func (s *store) Sync(context.Context, ds.Key) error { return nil }

// Close is part of ds.Datastore.
func (s *store) Close() error { return nil }

// Batch is part of ds.Batching.
func (s *store) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(s), nil }
