package overlay

import (
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
)

// entries is a verified record: at most one entry for each node, in the order of node identifiers.
type entries []*signedEntry

// record verifies a value: every entry, one user, distinct nodes in order. With pruning, expired entries are left out;
// without, they make the whole value invalid.
func (v *verifier) record(b []byte, prune bool) (entries, error) {
	list, err := decodeRecord(b)
	if err != nil {
		return nil, err
	}
	var out entries
	var last NodeID
	var firstErr error
	for i, s := range list {
		e, err := v.entry(s)
		if err != nil {
			if prune {
				firstErr = err
				continue
			}
			return nil, err
		}
		if i > 0 && len(out) > 0 && (e.Node <= last || e.aor != out[0].aor) {
			return nil, fmt.Errorf("%w: its entries are not of one user and in the order of their nodes", ErrBadRecord)
		}
		last = e.Node
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, firstErr
	}
	return out, nil
}

// merge brings two records of one user together: for each node the entry with the higher sequence number. Beyond
// MaxEntries, or MaxRecord bytes, the entries go that matter least: tombstones first, then the oldest.
func merge(a, b entries) entries {
	byNode := map[NodeID]*signedEntry{}
	for _, e := range slices.Concat(a, b) {
		if old, ok := byNode[e.Node]; !ok || e.Sequence > old.Sequence {
			byNode[e.Node] = e
		}
	}
	out := make(entries, 0, len(byNode))
	for _, e := range byNode {
		out = append(out, e)
	}
	slices.SortFunc(out, func(x, y *signedEntry) int {
		if xd, yd := len(x.Devices) > 0, len(y.Devices) > 0; xd != yd {
			if xd {
				return -1
			}
			return 1
		}
		if x.Sequence != y.Sequence {
			if x.Sequence > y.Sequence {
				return -1
			}
			return 1
		}
		return strings.Compare(string(x.Node), string(y.Node))
	})
	size, keep := 8, 0
	for keep < len(out) && keep < MaxEntries && size+len(out[keep].raw) <= MaxRecord {
		size += len(out[keep].raw)
		keep++
	}
	out = out[:keep]
	slices.SortFunc(out, func(x, y *signedEntry) int { return strings.Compare(string(x.Node), string(y.Node)) })
	return out
}

// adds says whether es holds something that old does not: an entry of a node that old lacks, or a newer one.
func (es entries) adds(old entries) bool {
	for _, e := range es {
		i := slices.IndexFunc(old, func(o *signedEntry) bool { return o.Node == e.Node })
		if i < 0 || e.Sequence > old[i].Sequence {
			return true
		}
	}
	return false
}

// newest gives the highest sequence number.
func (es entries) newest() uint64 {
	var n uint64
	for _, e := range es {
		n = max(n, e.Sequence)
	}
	return n
}

// encode gives the wire form.
func (es entries) encode() ([]byte, error) {
	list := make([]asn1.RawValue, len(es))
	for i, e := range es {
		list[i] = asn1.RawValue{FullBytes: e.raw}
	}
	return asn1.Marshal(list)
}

// Record gives the view that callers work with, newest entry first.
func (es entries) Record() Record {
	if len(es) == 0 {
		return Record{}
	}
	r := Record{AOR: es[0].aor}
	for _, e := range es {
		r.Nodes = append(r.Nodes, e.NodeEntry)
	}
	slices.SortStableFunc(r.Nodes, func(x, y NodeEntry) int {
		switch {
		case x.Sequence > y.Sequence:
			return -1
		case x.Sequence < y.Sequence:
			return 1
		}
		return 0
	})
	return r
}
