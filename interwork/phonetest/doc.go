// Package phonetest starts SIP phones that nobody of this project wrote, SIPp and baresip, so that tests can put them
// beside a node and let them call each other. It is test support: everything in it takes a testing.TB.
//
// What it promises:
//
//   - Loopback only. Every program is bound to 127.0.0.1, is told of no STUN server, and gets a name server that does not
//     exist, so a mistake in a test cannot send a packet into the world.
//   - No program is left behind. Each runs in a process group of its own, is ended by that group's number when the test
//     ends, passed or failed, and is always waited for. Should the test binary itself be killed, both programs end by
//     themselves after Life.
//   - What a phone said is shown when the test fails: SIPp's message log, baresip's SIP trace and control events.
//
// A test that wants a phone asks Need first; StartBaresip and NewSIPp do so by themselves. Without the program the test is
// skipped with a line saying how to install it, unless P2PSIP_REQUIRE_PEERS=1 is set, which turns the skip into a failure.
//
// baresip is a whole phone, driven over its control socket:
//
//	alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: "sip:alice@p2psip.example", Proxy: "127.0.0.1:5063"})
//	alice.Register(ctx)                                    // error: what the registrar said
//	call := alice.Dial(ctx, "sip:bob@p2psip.example")
//	call.WaitEstablished(ctx)                              // error: why not
//	call.Hold(ctx); call.Resume(ctx); call.Hangup(ctx)
//
// SIPp plays one scenario at a time, always from the same port, so that what it registered is where it waits:
//
//	bob := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: "sip:bob@p2psip.example", Proxy: "127.0.0.1:5068"})
//	bob.Register(ctx, time.Hour)
//	run := bob.Start(phonetest.Answer{Ring: 200 * time.Millisecond}) // returns when it listens
//	run.WaitReceived(ctx, "BYE")
//	run.Wait(ctx)                                          // error unless the scenario went as written
//
// The scenarios are templates in the folder scenarios, one for every type that implements Scenario.
//
// What a test has to know of the programs (SIPp 3.6.1, baresip 1.0.0):
//
//   - baresip copies the transport of its account into the URI it dials and registers with: the Request-URI is
//     "sip:bob@p2psip.example;transport=udp". It sends a Route to its outbound proxy; SIPp sends none.
//   - Its Contact user is "alice-0x55…", new with every account, so a restarted phone leaves its old binding behind.
//   - Its Authorization names no algorithm when that is MD5, and it registers nowhere if any challenge, not just the
//     first, is for SHA-256. SIPp takes the first challenge and ends if that is not MD5.
//   - Its recording stops with its first hold or resume (see Heard). It tells of a hold that was agreed on, not of one that
//     is under way, and never of the answer to its BYE or to an unregistration.
//   - It listens for TLS on the port after its SIP port.
//   - SIPp sends everything to its proxy, whatever the route says, and copies what a scenario says: it does not notice that
//     a message to it was wrong in a place the scenario does not look at.
//   - SIPp fails a run when a message comes that the scenario does not expect, such as a CANCEL for Answer.
package phonetest
