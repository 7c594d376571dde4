package overlay

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fuzzTime is when the fuzzed values are judged; the seeds are made for it.
var fuzzTime = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

var makeTestdata = flag.Bool("make-testdata", false, "make the overlay in testdata/overlay anew")

// TestMakeTestdata makes the overlay that the fuzz targets work in. It is kept in the repository because every process of
// the fuzzer must have the same one.
func TestMakeTestdata(t *testing.T) {
	if !*makeTestdata {
		return
	}
	const dir = "testdata/overlay"
	a, err := NewAuthority(DocumentOptions{ID: "p2psip.example"}, fuzzTime)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	key, err := LoadOrCreateKey(filepath.Join(dir, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	node, err := NodeOfKey(key)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := a.Document().ID.AOR("bob")
	if err != nil {
		t.Fatal(err)
	}
	cred, err := a.Issue(node, []AOR{bob}, []Role{RoleProxy}, time.Hour, fuzzTime)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bob.pem"), cred.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func fuzzOverlay(f *testing.F) (*verifier, []byte, *Document, *Credential) {
	fatal := func(err error) {
		if err != nil {
			f.Helper()
			f.Fatal(err)
		}
	}
	const dir = "testdata/overlay"
	doc, err := LoadDocument(filepath.Join(dir, DocumentFile), fuzzTime)
	fatal(err)
	key, err := LoadOrCreateKey(filepath.Join(dir, "node.key"))
	fatal(err)
	chain, err := os.ReadFile(filepath.Join(dir, "bob.pem"))
	fatal(err)
	cred, err := ParseCredentialPEM(chain, doc, fuzzTime)
	fatal(err)
	value, err := signEntry(key, cred, doc, cred.users[0], NodeEntry{
		Addrs: []string{"/ip4/127.0.0.1/tcp/5080"}, Sequence: uint64(fuzzTime.UnixMilli()), Expires: fuzzTime.Add(time.Hour),
		Devices: []Device{{ID: "x", Q: 500, Expires: fuzzTime.Add(time.Minute)}},
	})
	fatal(err)
	return newVerifier(doc, func() time.Time { return fuzzTime }), value, doc, cred
}

// FuzzRecord: whatever a stranger sends as a record, it is refused or reads the same after being written again.
func FuzzRecord(f *testing.F) {
	v, value, _, _ := fuzzOverlay(f)
	f.Add(value)
	f.Add(value[:len(value)/2])
	f.Add([]byte{0x30, 0})
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		es, err := v.record(b, false)
		pruned, perr := v.record(b, true)
		if err != nil {
			if perr == nil && len(pruned) == 0 {
				t.Fatal("a record without entries was accepted")
			}
			return
		}
		again, err := es.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := v.record(again, false)
		if err != nil || back.adds(es) || es.adds(back) {
			t.Fatalf("written again it reads differently: %v", err)
		}
		if m := merge(es, es); m.adds(es) || es.adds(m) {
			t.Fatal("merged with itself it is another record")
		}
		es.Record().Live(fuzzTime)
	})
}

// FuzzEntry lets the fuzzer write the signed part, with the signature made good, so that it gets behind the checks of
// credential and signature.
func FuzzEntry(f *testing.F) {
	v, value, _, _ := fuzzOverlay(f)
	list, err := decodeRecord(value)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(list[0].Entry)
	f.Fuzz(func(t *testing.T, b []byte) {
		var w wireEntry
		if unmarshalAll(b, &w) != nil {
			return
		}
		var e signedEntry
		if e.fill(w, v.doc.DHT, fuzzTime) == nil {
			if len(e.Devices) > MaxDevices || len(e.Addrs) > maxAddrs || !e.Expires.After(fuzzTime) {
				t.Fatalf("out of bounds: %+v", e.NodeEntry)
			}
		}
	})
}

// FuzzDocument: an overlay document is refused, or it is the one that was signed.
func FuzzDocument(f *testing.F) {
	_, _, doc, _ := fuzzOverlay(f)
	f.Add(doc.Bytes())
	f.Add([]byte(`{"overlay":{},"signature":""}`))
	f.Add([]byte(`{"overlay":null,"signature":"AA=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDocument(b, fuzzTime)
		if err == nil && !bytes.Equal(d.Root().Raw, doc.Root().Raw) {
			// A document that the fuzzer signed with a root of its own would be valid; it cannot make one.
			t.Fatal("another root was accepted")
		}
	})
}

// FuzzHello: the greeting on a stream.
func FuzzHello(f *testing.F) {
	v, _, _, cred := fuzzOverlay(f)
	b, err := encodeHello(cred)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0, 0, 0, 2, 0x30, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		chain, err := decodeHello(bytes.NewReader(b))
		if err != nil {
			return
		}
		if c, err := v.credential(chain); err == nil && c.Node() != cred.Node() {
			t.Fatal("a credential of another node was accepted")
		}
	})
}

// FuzzAOR: a user identifier has one canonical form.
func FuzzAOR(f *testing.F) {
	for _, s := range []string{"sip:bob@p2psip.example", "sip:%62ob@P2PSIP.example.", "sip:a%20b@x", "sip:@", "sip:a@b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAOR(s)
		if err != nil {
			return
		}
		if b, err := ParseAOR(a.String()); err != nil || a != b {
			t.Fatalf("%q reads as %q, and that as %q (%v)", s, a, b, err)
		}
	})
}
