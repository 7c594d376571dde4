// Package sim runs many nodes of the overlay, the production code, in one process and in virtual time, and measures what
// their users would feel.
//
// A Scenario says what happens: how many nodes, how far apart, who joins, leaves, dies, registers and looks whom up. It has
// a text form, one line for each setting (see ParseScenario and testdata); the command line sets the same names. Run turns
// it into a result.Run.
//
// A run has four stretches of virtual time: the nodes join one after the other (join), what that started comes to an end
// (settle), the overlay is left alone and its idle traffic is measured (idle), and then users are registered and looked up
// while things happen (duration). Times in the scenario, as in "kill 20%@10m", count from the beginning of the last
// stretch, except that users register at its beginning, spread over a minute.
//
// # Same seed, same report
//
// One seed gives the same result, octet for octet, apart from what the run itself cost (wall_s and self; result.Run.Strip
// takes them away), on a busy machine too. Keys, places, arrivals, credentials and all delays follow from the seed. What
// does not is the order in which the Go runtime runs the goroutines of one instant: it throws dice in a select with several
// ready cases and among timers of one instant, and interrupts long work by the wall clock. So nothing depends on that order.
// The network does one thing at a time, each at an instant of its own (see sim/network), so at one instant one node works;
// what a node draws depends on the instant and the purpose (overlay's dice); its time-outs are a hash apart; and the lists
// kept here are in the order of the nodes. TestRunSameSeed runs scenarios with goroutines giving way at random. The
// comparison with kad-dht's own calls (stock) is the exception: kad-dht draws from the runtime's dice there.
//
// New code in the overlay that breaks this most often has two goroutines of one node react to one message, the one reading
// what the other writes. That is a race in a real node, too, if a harmless one.
//
// # Calls
//
// A scenario with calls gives every user a phone (interwork/phone, without sound), and the nodes of users with phones are
// whole ones, made by cmd/p2psip/node as main makes them (callphone.go); the others stay bare overlay peers. Two people make
// a call (call.go) with an intention (callplan.go): it is answered, the callee is busy or does not answer, the caller changes
// his mind; either hangs up. A phone lives and dies with its node. People know everybody who has ever registered and not who
// is at home, so in churn they call those who have left as well.
//
// Set-up is from the INVITE to the 180 at the caller's phone. Its parts: lookup, until the caller's node has the first
// record; connect, until it has a stream to the callee's node; signalling, the rest. A call goes well if it took the course
// that its people intended, both phones saw the end of it, and no node keeps anything of it (callresult.go). Calls whose
// callee was away, or left meanwhile, are counted apart, with what the caller heard and when.
//
// The draft's flows across the border (border.go) need proxy peers, and package public for the far side: a provider with its
// subscribers, and the DNS. Calls to public addresses (5.4) go by accounts that the users' nodes keep with the provider.
//
// # What is production code and what is not
//
// overlay.Start and everything below it runs unmodified: kad-dht, its messages, signatures, the store. The libp2p host is
// the light one of sim/network; calibrate_test.go holds it against real hosts. A node that is killed is silenced first and
// then closed, so that nobody hears of it.
//
// # Hostile nodes
//
// hostile.go turns a share of the nodes against the others: the production code over the same host, whose answers to the
// DHT's requests are changed (hostile_answer.go), records and advertisements forged (hostile_record.go, hostile_advert.go).
// Only what honest users do is measured, and every record that a lookup hands out is held against what its owner has
// registered. WithHostile makes the scenarios of a sweep over the share.
package sim
