package overlay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"p2psip/overlay"
)

func authority(t testing.TB, o overlay.DocumentOptions) *overlay.Authority {
	t.Helper()
	if o.ID == "" {
		o.ID = "p2psip.example"
	}
	a, err := overlay.NewAuthority(o, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestDocumentSurvivesReformattingButNoChange(t *testing.T) {
	a := authority(t, overlay.DocumentOptions{Bootstrap: []string{"/ip4/127.0.0.1/tcp/5080/p2p/12D3KooWGRUQC6dCV1rT9sMWtPJoR7E8f5qYy5RYHpfNXuDRRVw8"}})
	raw := a.Document().Bytes()
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		t.Fatal(err)
	}
	d, err := overlay.ParseDocument(compact.Bytes(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if d.ID != "p2psip.example" || d.Serial != 1 || len(d.Bootstrap) != 1 || d.Policy != overlay.PolicyCertified || d.DHT.BucketSize != overlay.DefaultBucketSize {
		t.Errorf("read back as %+v", d)
	}
	// Every single altered byte that still parses must break the signature; none may be taken.
	for i := range compact.Len() {
		b := bytes.Clone(compact.Bytes())
		b[i] ^= 2
		if d, err := overlay.ParseDocument(b, time.Now()); err == nil {
			t.Errorf("byte %d (%q to %q) was altered and nobody noticed: %+v", i, compact.Bytes()[i], b[i], d)
		}
	}
}

func TestDocumentRefused(t *testing.T) {
	a := authority(t, overlay.DocumentOptions{})
	other := authority(t, overlay.DocumentOptions{})
	good := string(a.Document().Bytes())
	cross := func() string {
		var x, y map[string]json.RawMessage
		json.Unmarshal(a.Document().Bytes(), &x)
		json.Unmarshal(other.Document().Bytes(), &y)
		x["signature"] = y["signature"]
		b, _ := json.Marshal(x)
		return string(b)
	}()
	for _, c := range []struct {
		name, in string
		at       time.Time
		why      string
	}{
		{"empty", "", time.Now(), "EOF"},
		{"not JSON", "hello", time.Now(), "invalid character"},
		{"another JSON", `{"a":1}`, time.Now(), "unknown field"},
		{"empty object", `{}`, time.Now(), "lacks the overlay"},
		{"trailing", good + "{}", time.Now(), "follows"},
		{"truncated", good[:len(good)/2], time.Now(), "unexpected EOF"},
		{"too large", good + strings.Repeat(" ", 65<<10), time.Now(), "allowed"},
		{"signature of another", cross, time.Now(), "signature"},
		{"version", strings.Replace(good, `"version": 1`, `"version": 2`, 1), time.Now(), "version 2"},
		{"expired", good, time.Now().Add(11 * 365 * 24 * time.Hour), "expired"},
		{"from the future", good, time.Now().Add(-time.Hour), "clock"},
	} {
		_, err := overlay.ParseDocument([]byte(c.in), c.at)
		if !errors.Is(err, overlay.ErrBadDocument) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want ErrBadDocument with %q", c.name, err, c.why)
		}
	}
}

func TestDocumentOptionsRefused(t *testing.T) {
	for _, o := range []overlay.DocumentOptions{
		{ID: "192.0.2.1"}, {ID: "village"}, {ID: "a.example", Policy: "closed"},
		{ID: "a.example", Bootstrap: []string{"/ip4/127.0.0.1/tcp/1"}},
		{ID: "a.example", Bootstrap: []string{"example.com:5060"}},
		{ID: "a.example", DHT: overlay.DHTParams{BucketSize: 1}},
		{ID: "a.example", DHT: overlay.DHTParams{RecordLifetime: time.Second}},
		{ID: "a.example", DHT: overlay.DHTParams{RecordLifetime: 2 * time.Hour, Retention: time.Hour}},
	} {
		if _, err := overlay.NewAuthority(o, time.Now()); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestDocumentUpdateReplaces(t *testing.T) {
	a := authority(t, overlay.DocumentOptions{})
	first := a.Document()
	if err := a.Update([]string{"/ip4/127.0.0.1/tcp/5080/p2p/12D3KooWGRUQC6dCV1rT9sMWtPJoR7E8f5qYy5RYHpfNXuDRRVw8"}, 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	second := a.Document()
	if second.Serial != 2 || len(second.Bootstrap) != 1 {
		t.Errorf("updated to %+v", second)
	}
	if err := second.Replaces(first); err != nil {
		t.Error(err)
	}
	if err := first.Replaces(second); err == nil {
		t.Error("an old document replaces a newer one")
	}
	if err := authority(t, overlay.DocumentOptions{}).Document().Replaces(first); err == nil {
		t.Error("a document of another root replaces this one")
	}
	if err := authority(t, overlay.DocumentOptions{ID: "other.example"}).Document().Replaces(first); err == nil {
		t.Error("a document of another overlay replaces this one")
	}
}

func TestAuthorityOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authority")
	a := authority(t, overlay.DocumentOptions{})
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, overlay.RootKeyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the root key's file: %v %v", st.Mode(), err)
	}
	b, err := overlay.LoadAuthority(dir, time.Now())
	if err != nil || b.Document().Fingerprint() != a.Document().Fingerprint() {
		t.Fatalf("loaded %v, %v", b, err)
	}
	if err := authority(t, overlay.DocumentOptions{}).Save(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another root key was written over the first: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, overlay.RootKeyFile), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := overlay.LoadAuthority(dir, time.Now()); err == nil {
		t.Error("a damaged root key was loaded")
	}
}
