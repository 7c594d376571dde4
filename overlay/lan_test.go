package overlay_test

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

// TestLAN: two nodes that know no address find each other by mDNS. Multicast must not leave the machine, so the test
// runs itself again in a network namespace of its own, whose only interfaces are the two ends of a cable.
func TestLAN(t *testing.T) {
	if os.Getenv("P2PSIP_TEST_LAN") == "" {
		inNamespace(t, "TestLAN", "P2PSIP_TEST_LAN=1")
		return
	}
	u := overlaytest.New(t, 2, func(i int, c *overlay.Config) {
		c.Bootstrap = []peer.AddrInfo(nil)
		c.Listen = []string{"/ip4/10.77.0.1/tcp/0"}
		c.LAN = true
		c.Timing = quick
	})
	eventually(t, "both nodes found each other", func() bool {
		return u.Peers[0].Status().Routing == 1 && u.Peers[1].Status().Routing == 1
	})
	a := u.AOR(t, "user0")
	if err := u.Peers[0].Registrations().Set(context.Background(), a, []overlay.Device{{ID: "x"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := lookup(t, u.Peers[1], a); err != nil {
		t.Error(err)
	}
}

// inNamespace runs one test of this package again inside a network namespace made for it.
func inNamespace(t *testing.T, test, env string) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		need(t, "needs Linux and root for a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		need(t, "needs the command ip: apt-get install iproute2")
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		need(t, "needs the command unshare: apt-get install util-linux")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const script = `ip link set lo up && ip link add lan0 type veth peer name lan1 && ip addr add 10.77.0.1/24 dev lan0 && ip link set lan1 up &&
ip link set lan0 multicast on up && ip route add default dev lan0 && exec "$@"`
	cmd := exec.CommandContext(ctx, "unshare", "--net", "sh", "-c", script, "sh", os.Args[0], "-test.run", "^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in the namespace: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// need skips a test that cannot run here, or fails it where everything is meant to be installed.
func need(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("P2PSIP_REQUIRE_PEERS") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}
