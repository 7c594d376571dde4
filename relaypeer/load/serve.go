package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/pion/logging"
	"github.com/pion/turn/v2"

	"p2psip/relaypeer/datapath"
)

const (
	realm    = "bench"
	username = "bench"
	password = "bench"
)

// Serve is our relay as it is measured: it writes its address to w, a line, and relays for everybody on the loopback interface until
// ctx ends.
func Serve(ctx context.Context, r Relay, w io.Writer) error {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loop, err := datapath.NewLoop(datapath.LoopOptions{Plain: r == Plain})
	if err != nil {
		return err
	}
	defer loop.Close()
	front, err := loop.Listen("udp4", netip.AddrPortFrom(loopback, 0).String(), datapath.Options{})
	if err != nil {
		return err
	}
	key := turn.GenerateAuthKey(username, realm, password)
	server, err := turn.NewServer(turn.ServerConfig{
		Realm:         realm,
		AuthHandler:   func(string, string, net.Addr) ([]byte, bool) { return key, true },
		LoggerFactory: &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn: front,
			RelayAddressGenerator: &datapath.Generator{
				Loop: loop, Front: front, Relay4: datapath.RelayAddress{Listen: loopback, Announce: loopback},
			},
		}},
	})
	if err != nil {
		return fmt.Errorf("starting the relay: %w", err)
	}
	defer server.Close()
	if _, err := fmt.Fprintln(w, front.LocalAddr()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
