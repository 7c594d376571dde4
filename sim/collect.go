package sim

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"p2psip/sim/result"
)

// minGarbage is how much may lie about before it is collected, where less than that is in use. The runtime alone would
// collect that of a small run many times a second.
const minGarbage = 256 << 20

// collect makes the collector wait for minGarbage in a small run. In a large one it comes when there is as much garbage as
// what lives, as always.
func (r *run) collect() {
	was := 0
	for {
		percent := 100
		if living := living(); living < minGarbage {
			percent = int(100 * minGarbage / max(living, 1<<20))
		}
		if percent < was*9/10 || percent > was*11/10 {
			debug.SetGCPercent(percent)
			was = percent
		}
		if !r.sleep(time.Second + 3331*time.Nanosecond) {
			return
		}
	}
}

// weigh takes what the nodes need in memory.
func (r *run) weigh() {
	runtime.GC()
	s := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	stacks := uint64(0)
	if s[0].Value.Kind() == metrics.KindUint64 {
		stacks = s[0].Value.Uint64()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up > 0 {
		r.live = result.V(float64(living()+stacks) / float64(r.up))
	}
}

// living gives the bytes that were in use when they were looked through last.
func living() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
