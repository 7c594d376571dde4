package sim

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
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

// living gives the bytes that were in use when they were looked through last.
func living() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
