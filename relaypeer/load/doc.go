// Package load measures what relaying costs: a relay in a process of its own, beside it a generator of traffic, on the loopback
// interface.
//
// Run starts each relay that is to be compared in turn, round after round, so that a machine that is busy now and idle then is
// so for all of them. Of each it makes the same allocations, binds a channel for each, and sends through every one of them
// packets of voice's size in both directions, evenly spread over time. It counts the processor time of the relay's process,
// what of it is gone from memory, what was lost, and how long packets took. A Result has every round; the median is
// what the table shows, with the spread beside it.
//
// What is measured, exactly:
//
//   - CPU: user and system time of the process from /proc, between the first and the last counted packet, for a million
//     packets that arrived. On the loopback interface a sender also pays for most of the receiver's part in the kernel, the same
//     for every relay.
//   - Ours is package relaypeer's server, with its gate and its limits, as members use it; pion is the library's own server on ordinary
//     sockets; coturn is turnserver with its defaults, but without TCP, TLS and a log.
//   - Delay: from before the generator's system call that sends a packet to the kernel's receive time stamp (SO_TIMESTAMPNS)
//     at the other end, so what the generator is busy with meanwhile does not count. The way without a relay is part of
//     it: some 10 µs.
//   - Memory: resident set of the process before the first allocation and after the last; sockets in the kernel are not part of it.
//
// The generator is one thread, and never waits for the relay. It works on Linux only.
package load
