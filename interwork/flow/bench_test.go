package flow

import (
	"net"
	"testing"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

type countingHandler struct{ n chan struct{} }

func (h countingHandler) HandleMessage(Flow, sip.Message)      { h.n <- struct{}{} }
func (h countingHandler) HandleMalformed(Flow, *message.Error) {}
func (h countingHandler) HandleClosed(Flow)                    {}

// BenchmarkUDP is one request in and delivered, over a real socket.
func BenchmarkUDP(b *testing.B) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	h := countingHandler{make(chan struct{}, 1)}
	u := ListenUDP(pc, h, Options{})
	defer u.Close()
	c, err := net.Dial("udp", u.Local().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := request(1)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(r)
		<-h.n
	}
}
