package transaction

import "sync/atomic"

type stats struct {
	requests, responses, malformed, refused, full, panics atomic.Uint64
}

// Stats are counters since the start, and the sizes of the tables.
type Stats struct {
	Requests  uint64 // received
	Responses uint64 // received
	Malformed uint64 // refused before they reached the layer
	Refused   uint64 // requests answered 503 because the table was full
	Full      uint64 // requests not sent because the table was full
	Panics    uint64 // messages lost to a fault in their handling
	Servers   int    // server transactions now
	Clients   int    // client transactions now
}

// Stats gives a snapshot.
func (l *Layer) Stats() Stats {
	l.smu.Lock()
	servers := len(l.servers)
	l.smu.Unlock()
	l.cmu.Lock()
	clients := len(l.clients)
	l.cmu.Unlock()
	return Stats{
		Requests: l.stats.requests.Load(), Responses: l.stats.responses.Load(), Malformed: l.stats.malformed.Load(),
		Refused: l.stats.refused.Load(), Full: l.stats.full.Load(), Panics: l.stats.panics.Load(),
		Servers: servers, Clients: clients,
	}
}
