package account

import (
	"errors"
	"testing"
)

// TestFixed: accounts without a file.
func TestFixed(t *testing.T) {
	s, err := Fixed(oid, Account{AOR: "sip:bob@provider.example", User: "bob", Password: "x"}, Account{AOR: "sip:alice@provider.example", User: "alice", Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].User != "alice" {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := s.Add(Account{AOR: "sip:carol@provider.example", User: "carol", Password: "x"}); err == nil {
		t.Error("an account was added to what nobody keeps")
	}
	if _, err := Fixed(oid, Account{AOR: "sip:bob@" + string(oid), User: "bob", Password: "x"}); !errors.Is(err, ErrBadAccount) {
		t.Errorf("an account with the overlay itself: %v", err)
	}
}
