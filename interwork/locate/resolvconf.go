package locate

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// DefaultResolvConf is where Unix systems name their name servers.
	DefaultResolvConf = "/etc/resolv.conf"

	// resolvConfAge is how long the file is believed before it is looked at again: machines move between networks.
	resolvConfAge = 5 * time.Second

	// maxServers is how many name servers are used.
	maxServers = 8
)

// resolvConf reads the name servers of this machine and notices when they change.
type resolvConf struct {
	path string

	mu      sync.Mutex
	looked  time.Time        // guarded by mu
	changed time.Time        // guarded by mu: of the file
	size    int64            // guarded by mu: of the file
	servers []netip.AddrPort // guarded by mu; never changed in place
}

// list gives the name servers as of now. A file that has become unreadable or empty leaves those that were known.
func (c *resolvConf) list(now time.Time) ([]netip.AddrPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now.Sub(c.looked); c.servers != nil && age >= 0 && age < resolvConfAge {
		return c.servers, nil
	}
	c.looked = now
	info, err := os.Stat(c.path)
	if err == nil && c.servers != nil && info.ModTime().Equal(c.changed) && info.Size() == c.size {
		return c.servers, nil
	}
	if err == nil {
		var servers []netip.AddrPort
		if servers, err = readResolvConf(c.path); err == nil {
			c.servers, c.changed, c.size = servers, info.ModTime(), info.Size()
		}
	}
	if c.servers != nil {
		return c.servers, nil
	}
	return nil, err
}

func readResolvConf(path string) ([]netip.AddrPort, error) {
	cfg, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the name servers: %w", err)
	}
	port, err := strconv.ParseUint(cfg.Port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read the name servers: port %q: %w", cfg.Port, err)
	}
	var servers []netip.AddrPort
	for _, s := range cfg.Servers {
		if a, err := netip.ParseAddr(s); err == nil && len(servers) < maxServers {
			servers = append(servers, netip.AddrPortFrom(a, uint16(port)))
		}
	}
	if servers == nil {
		return nil, fmt.Errorf("%w: %s names none", ErrNoServers, path)
	}
	return servers, nil
}

// parseServers reads "192.0.2.53", "192.0.2.53:5353", "2001:db8::53" and "[2001:db8::53]:5353".
func parseServers(list []string) ([]netip.AddrPort, error) {
	var servers []netip.AddrPort
	for _, s := range list {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			a, err2 := netip.ParseAddr(s)
			if err2 != nil {
				return nil, fmt.Errorf("name server %q: want an address and perhaps a port, such as 192.0.2.53:53: %w", s, err)
			}
			ap = netip.AddrPortFrom(a, 53)
		}
		if ap.Port() == 0 {
			return nil, fmt.Errorf("name server %q: port 0", s)
		}
		servers = append(servers, ap)
	}
	if len(servers) > maxServers {
		return nil, fmt.Errorf("%d name servers; %d at most", len(servers), maxServers)
	}
	return servers, nil
}
