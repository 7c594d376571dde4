package main

import (
	"errors"
	"testing"

	"p2psip/overlay"
)

// Who may have an echo answer: the user, those that are named, and nobody whose name is not proven.
func TestEchoGuests(t *testing.T) {
	alice, err := overlay.ParseAOR("sip:alice@p2psip.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		allow      []string
		caller     string
		privileged bool
		want       bool
	}{
		{nil, "sip:alice@p2psip.example", false, true},
		{nil, "sip:alice@p2psip.example", true, true},
		{nil, "sip:bob@p2psip.example", false, false},
		{nil, "sip:alice@elsewhere.example", false, false},
		{nil, "tel:123", false, false},
		{nil, "", false, false},
		{[]string{"bob"}, "sip:bob@p2psip.example", false, true},
		{[]string{"bob"}, "sip:bob@p2psip.example", true, false},
		{[]string{"bob"}, "sip:bob@elsewhere.example", false, false},
		{[]string{"carol", "sip:bob@p2psip.example"}, "sip:bob@p2psip.example", false, true},
		{[]string{"*"}, "sip:dora@p2psip.example", false, true},
		{[]string{"*"}, "sip:dora@p2psip.example", true, false},
		{[]string{"*"}, "sip:dora@elsewhere.example", false, false},
	} {
		g, err := parseAllow(alice, tt.allow)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.may(tt.caller, tt.privileged); got != tt.want {
			t.Errorf("allowed %v: %s (privileged: %v) may: %v", tt.allow, tt.caller, tt.privileged, got)
		}
	}
	for _, w := range []string{"sip:bob@elsewhere.example", "a b", "sip:", ""} {
		if _, err := parseAllow(alice, []string{w}); !errors.Is(err, errUsage) {
			t.Errorf("--allow %q: %v", w, err)
		}
	}
}
