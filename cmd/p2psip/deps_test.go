package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed says which of this project's packages each may import. Imports point downwards only: what the overlay is must
// not depend on SIP, and each layer of SIP only on those below it. So a change stays where it is made, the overlay can be
// used without telephony, and a layer can be tested and understood without those above. A package that is not listed has
// no place yet; give it one here, with as little as it needs.
var allowed = map[string][]string{
	"overlay":                               {"overlay/datadir"},
	"overlay/datadir":                       {},
	"overlay/overlaytest":                   {"overlay"},
	"interwork":                             {"overlay"},
	"interwork/message":                     {},
	"interwork/authparam":                   {},
	"interwork/media/sdp":                   {},
	"interwork/media":                       {"interwork/media/sdp", "overlay"}, // sound passes here; who is called is not its matter
	"interwork/flow":                        {"interwork/message"},
	"interwork/transaction":                 {"interwork/flow", "interwork/message"},
	"interwork/transaction/transactiontest": {"interwork/flow", "interwork/message"},
	"interwork/locate":                      {}, // RFC 3263 knows no overlay
	"interwork/locate/zone":                 {},
	"interwork/locate/locatetest":           {"interwork/phonetest"}, // name servers that nobody of this project wrote
	"interwork/proxy":                       {"interwork", "interwork/transaction", "interwork/flow", "interwork/message", "overlay"},
	"interwork/account":                     {"interwork/authparam", "interwork/message", "overlay", "overlay/datadir"},
	// edge stands beside proxy's core and above its types: it is what the core asks about phones.
	"interwork/edge":        {"interwork", "interwork/authparam", "interwork/proxy", "interwork/transaction", "interwork/flow", "interwork/message", "overlay", "overlay/datadir"},
	"interwork/phone":       {"interwork/phone/audio", "interwork/transaction", "interwork/flow", "interwork/message"}, // a phone knows no overlay
	"interwork/phone/audio": {},
	"interwork/phonetest":   {"interwork/phone/audio"}, // phones that nobody of this project wrote
	"proxypeer":             {"interwork/flow", "interwork/locate", "interwork/message", "interwork/proxy", "overlay"},
	"proxypeer/policy":      {"proxypeer", "interwork/flow", "interwork/locate", "interwork/proxy"},
	"relaypeer":             {"relaypeer/credential", "relaypeer/datapath", "overlay", "overlay/datadir"}, // moves packets: knows no SIP
	"dnsreg":                {"interwork/locate/zone", "overlay"},                                         // names and addresses: knows no SIP messages
	"relaypeer/credential":  {"overlay"},
	"relaypeer/client":      {"relaypeer/credential", "overlay"}, // allocations for whoever moves sound
	"relaypeer/datapath":    {},
	"relaypeer/load":        {"relaypeer", "relaypeer/credential", "relaypeer/datapath"}, // measures a relay
	"cmd/p2psip/node":       {"dnsreg", "relaypeer", "relaypeer/client", "relaypeer/credential", "relaypeer/datapath", "interwork/media", "proxypeer", "proxypeer/policy", "interwork/locate", "interwork/account", "interwork/edge", "interwork/proxy", "interwork/transaction", "interwork/flow", "interwork/message", "overlay", "overlay/datadir"},
	"cmd/p2psip":            {"dnsreg", "relaypeer", "relaypeer/datapath", "relaypeer/load", "proxypeer", "proxypeer/policy", "interwork/locate", "interwork/locate/zone", "interwork/flow", "cmd/p2psip/node", "interwork/account", "interwork/edge", "interwork/phone", "interwork/phone/audio", "interwork/proxy", "overlay", "overlay/datadir", "sim", "sim/public", "sim/report", "sim/result"},
}

func TestImportsPointDownwards(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "p2psip/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "p2psip/")
		may, ok := allowed[name]
		sim := name == "sim" || strings.HasPrefix(name, "sim/") // runs whole nodes: above everything, below nothing
		if !ok && !sim {
			t.Errorf("%s has no place in the order of packages", name)
		}
		for _, i := range p.Imports {
			if below, ours := strings.CutPrefix(i, "p2psip/"); ours && !slices.Contains(may, below) && (!sim || below == "cmd/p2psip") {
				t.Errorf("%s must not import %s", name, below)
			}
			// SIP's messages have no business where it is decided what the overlay is.
			if strings.HasPrefix(name, "overlay") && strings.HasPrefix(i, "github.com/emiago/") {
				t.Errorf("%s must not import %s", name, i)
			}
			// sipgo's transport and transaction layers are not used (see DESIGN.md).
			if strings.HasPrefix(i, "github.com/emiago/sipgo") && i != "github.com/emiago/sipgo/sip" {
				t.Errorf("%s must not import %s", name, i)
			}
		}
	}
}
