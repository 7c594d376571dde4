package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"

	"github.com/pion/logging"
	"github.com/pion/turn/v2"

	"p2psip/relaypeer"
	"p2psip/relaypeer/credential"
	"p2psip/relaypeer/datapath"
)

const (
	realm    = "bench"
	username = "bench"
	password = "bench"
)

// credentials gives the user name and the password that a relay takes.
func credentials(r Relay) (user, pass string) {
	if r != Ours {
		return username, password
	}
	user = "4000000000:" + username // good until then
	return user, secret().Password(user)
}

func secret() credential.Secret { return credential.NewSecret([]byte(password)) }

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
	var server io.Closer
	if r == Ours {
		server, err = servePeer(loop, front)
	} else {
		server, err = servePion(loop, front, loopback)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("starting the relay: %w", err), front.Close())
	}
	defer server.Close()
	if _, err := fmt.Fprintln(w, front.LocalAddr()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// servePeer is a relay peer as members use it. One member makes all allocations, so its limits are set aside; they are
// looked at for each packet nevertheless.
func servePeer(loop *datapath.Loop, front datapath.Front) (io.Closer, error) {
	const much = 1 << 40
	return relaypeer.Start(relaypeer.Config{
		Loop: loop, Sockets: []relaypeer.Socket{{Transport: relaypeer.UDP, Front: front}}, Secret: secret(),
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Limits: relaypeer.Limits{
			Allocations: maxAllocations, PerMember: maxAllocations, PerSource: maxAllocations, Made: 100 * maxAllocations, Requests: 100 * maxAllocations,
			Answers: 100 * maxAllocations, Rate: much, MemberRate: much, Month: much, MemberMonth: much,
		},
		Logger: slog.New(slog.DiscardHandler),
	})
}

// servePion is pion's server with nothing before it.
func servePion(loop *datapath.Loop, front datapath.Front, loopback netip.Addr) (io.Closer, error) {
	key := turn.GenerateAuthKey(username, realm, password)
	return turn.NewServer(turn.ServerConfig{
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
}
