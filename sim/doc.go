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
// Keys, places, arrivals and all delays follow from the seed, and the run holds the process to one processor. What remains
// is the order of goroutines within one instant: the Go runtime throws its own dice in a select with several ready cases,
// and interrupts long work by the wall clock. So two runs of one seed agree in what happened and differ a little in the
// figures, more so on a busy machine; TestRunSameSeed says what holds.
//
// # What is production code and what is not
//
// overlay.Start and everything below it runs unmodified: kad-dht, its messages, signatures, the store. The libp2p host is
// the light one of sim/network; calibrate_test.go holds it against real hosts. A node that is killed is silenced first and
// then closed, so that nobody hears of it.
package sim
