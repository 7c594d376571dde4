package datapath

import "sync/atomic"

// Stats counts packets since the Loop began, over all its sockets.
type Stats struct {
	Short        uint64 // forwarded past pion, in both directions
	Handed       uint64 // handed to pion
	LostQueue    uint64 // came faster than pion took them
	LostSending  uint64 // the kernel did not take them
	LostMeter    uint64 // a Meter forbade them
	LostOversize uint64 // larger than MaxDatagram
	Refused      uint64 // not admitted, or requests that pion must not see
	Panics       uint64 // batches lost to a panic
	Rounds       uint64 // times that the Loop woke up
	Allocations  int    // relayed addresses open now
}

type counters struct {
	short, handed, lostQueue, lostSending, lostMeter, lostOversize, refused, panics, rounds atomic.Uint64
	allocations                                                                             atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		Short: c.short.Load(), Handed: c.handed.Load(), LostQueue: c.lostQueue.Load(), LostSending: c.lostSending.Load(),
		LostMeter: c.lostMeter.Load(), LostOversize: c.lostOversize.Load(), Refused: c.refused.Load(), Panics: c.panics.Load(), Rounds: c.rounds.Load(),
		Allocations: int(c.allocations.Load()),
	}
}
