package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/proxypeer/policy"
)

// TestFederationPolicyChanges: a file that is put into the proxy peers' data directories while a call is under way holds for
// new calls; the one that was let through goes on and ends as it likes.
func TestFederationPolicyChanges(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	w := newBorderWorld(t, false)
	ctx := testContext(t)
	alice, carol := w.phones(ctx)
	out, in := established(t, ctx, alice, carol, "sip:carol@provider.example")

	w.federate(ctx, "[default]\noutbound = false\ninbound = false\n", false)
	if err := out.Hold(ctx); err != nil {
		t.Errorf("the call that was let through: %v", err)
	}
	if err := in.WaitReoffer(ctx, 1); err != nil {
		t.Errorf("the call that was let through: %v", err)
	}
	if err := in.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := out.WaitClosed(ctx); err != nil {
		t.Errorf("carol's BYE: %v", err)
	}
	if reason, err := alice.Dial(ctx, "sip:carol@provider.example").WaitClosed(ctx); err != nil || !strings.HasPrefix(reason, "403") {
		t.Errorf("a call out: %q, %v", reason, err)
	}
	if reason, err := carol.Dial(ctx, "sip:alice@"+testID).WaitClosed(ctx); err != nil || !strings.HasPrefix(reason, "403") {
		t.Errorf("a call in: %q, %v", reason, err)
	}

	// A mistake in the file changes nothing and is told in status; mended, it holds.
	w.write("[default]\noutbound = true\n[[domian]]\n")
	for _, pp := range w.pp {
		if _, err := pp.federation.Reload(); err == nil || !strings.Contains(pp.Status().Border.Policy, `line 3, column 3: there is no key "domian"; did you mean "domain"?`) {
			t.Errorf("%v; status tells %q", err, pp.Status().Border.Policy)
		}
	}
	if reason, err := alice.Dial(ctx, "sip:carol@provider.example").WaitClosed(ctx); err != nil || !strings.HasPrefix(reason, "403") {
		t.Errorf("a call out under a mistaken file: %q, %v", reason, err)
	}
	w.federate(ctx, "[default]\noutbound = false\n[[domain]]\nnames = [\"provider.example\"]\n", true)
	out, in = established(t, ctx, alice, carol, "sip:carol@provider.example")
	if err := out.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := in.WaitClosed(ctx); err != nil {
		t.Errorf("alice's BYE: %v", err)
	}
}

// write puts a policy into the data directories of the proxy peers.
func (w *borderWorld) write(text string) {
	w.t.Helper()
	for _, pp := range w.pp {
		if err := os.WriteFile(filepath.Join(pp.cfg.DataDir, policy.FileName), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

// federate writes a policy and waits until it is in force: until calls to the provider are allowed, or not.
func (w *borderWorld) federate(ctx context.Context, text string, allowed bool) {
	w.t.Helper()
	w.write(text)
	carol := sip.Uri{Scheme: "sip", User: "carol", Host: "provider.example"}
	for _, pp := range w.pp {
		for pp.federation.Policy().Outbound(carol).Allowed != allowed {
			select {
			case <-ctx.Done():
				w.t.Fatal("the policy is not taken up")
			case <-time.After(20 * time.Millisecond): // the file is looked at every few seconds
			}
		}
	}
}
