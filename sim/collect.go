package sim

import (
	"runtime"
	"time"
)

// Garbage is collected when it is this much, and twice what lives.
const minGarbage = 256 << 20

// collect takes the place of the runtime's own garbage collector, which would interrupt goroutines in the middle of an
// instant and change their order. A goroutine that wakes at an instant of its own finds all others waiting.
func (r *run) collect() {
	runtime.GC()
	living, _, _ := memory()
	for r.sleep(97_003_331 * time.Nanosecond) {
		heap, _, _ := memory()
		if heap < living+max(minGarbage, 2*living) {
			continue
		}
		runtime.GC()
		living, _, _ = memory()
	}
}
