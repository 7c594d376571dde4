package edge

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
	"p2psip/overlay"
)

// The REGISTERs of RFC 4475 and RFC 5118 that are in order, or odd but to be processed, at the registrar of example.com.
// Those that are wrong do not get past the parser, and are tested there.
func TestCorpus(t *testing.T) {
	for name, c := range map[string]struct {
		contacts int // in the response
		remote   int // status from an address that needs a password
	}{
		"rfc4475/cparam01.dat":         {1, 401},
		"rfc4475/cparam02.dat":         {1, 401},
		"rfc4475/dblreq.dat":           {1, 401},
		"rfc4475/escnull.dat":          {2, 401}, // %00 and %00%00 are two users
		"rfc4475/regaut01.dat":         {0, 401}, // an unknown scheme is no credentials
		"rfc4475/regescrt.dat":         {1, 401},
		"rfc5118/ipv6-good.dat":        {1, 401},
		"rfc5118/port-ambiguous.dat":   {1, 401},
		"rfc5118/port-unambiguous.dat": {1, 401},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("..", "message", "testdata", "corpus", filepath.FromSlash(name)))
			if err != nil {
				t.Fatal(err)
			}
			m, err := message.Parse(raw, true)
			if err != nil {
				t.Fatal(err)
			}
			req := m.(*sip.Request)
			var owner overlay.AOR
			inBubble(t, func(cfg *Config) { cfg.OID = "example.com" }, func(b *bench) {
				if owner, err = b.c.OID.AOR(req.To().Address.User); err != nil {
					t.Fatal(err)
				}
				b.owned = []overlay.AOR{owner}
				for _, f := range []*memFlow{udpFrom("192.0.2.7", 5060), udpFrom("127.0.0.1", 5070)} {
					b.layer.HandleMessage(f, message.Clone(req))
					synctest.Wait()
					want := 200
					if f.remote.Host != "127.0.0.1" {
						want = c.remote
					}
					rs := f.take()
					if len(rs) != 1 || rs[0].StatusCode != want {
						t.Fatalf("from %v: %v, want %d", f.remote, rs, want)
					}
					if n := len(message.Contacts(rs[0])); want == 200 && n != c.contacts {
						t.Errorf("%d contacts: %s", n, header(rs[0], "Contact"))
					}
				}
			})
		})
	}
}
