package phonetest

import (
	"os"
	"os/exec"
	"testing"
)

// RequirePeers is the environment variable that turns a missing program from a skip into a failure when set to 1. The
// continuous integration sets it, so that no test goes missing there unseen.
const RequirePeers = "P2PSIP_REQUIRE_PEERS"

// packages names the Debian package of each program.
var packages = map[string]string{
	"sipp":    "sip-tester",
	"baresip": "baresip-core",
	"named":   "bind9",
}

// Need returns the path of a program and skips the test if it is not installed; with RequirePeers=1 it fails instead.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	pkg := packages[program]
	if pkg == "" {
		pkg = program
	}
	if os.Getenv(RequirePeers) == "1" {
		t.Fatalf("%s is not installed and %s=1: apt-get install %s", program, RequirePeers, pkg)
	}
	t.Skipf("%s is not installed: apt-get install %s", program, pkg)
	return ""
}
