package sim

import (
	"runtime/metrics"
	"sync"
	"time"

	"p2psip/sim/result"
)

// watcher looks at a run from outside the bubble, in real time: progress, and what the run costs this machine. It is woken
// from inside, between two instants: a goroutine that comes in between at any other moment would change the order in which
// the others run.
type watcher struct {
	r        *run
	progress func(result.Progress)
	begin    time.Time
	cpu      float64
	wg       sync.WaitGroup

	heap, total, goroutines uint64 // peaks
}

const watchInterval = 250 * time.Millisecond

func watch(r *run, progress func(result.Progress)) *watcher {
	w := &watcher{r: r, progress: progress, begin: time.Now(), cpu: cpuSeconds()}
	w.wg.Go(func() {
		var last time.Time
		for p := range r.progress {
			heap, total, goroutines := memory()
			w.heap, w.total, w.goroutines = max(w.heap, heap), max(w.total, total), max(w.goroutines, goroutines)
			if now := time.Now(); progress != nil && now.Sub(last) >= watchInterval {
				last = now
				progress(p)
			}
		}
	})
	return w
}

// stop ends the watch and gives what the run has cost.
func (w *watcher) stop() *result.Self {
	close(w.r.progress)
	w.wg.Wait()
	self := &result.Self{
		CPUS:          result.V(cpuSeconds() - w.cpu),
		HeapPeakBytes: result.V(float64(w.heap)), RSSPeakBytes: result.V(float64(w.total)), GoroutinesPeak: result.V(float64(w.goroutines)),
	}
	if w.r.net != nil {
		n := float64(w.r.net.Events())
		self.Messages, self.MessagesPerS = result.V(n), result.V(n/time.Since(w.begin).Seconds())
	}
	return self
}

// memory gives the bytes of living and not yet collected objects, all that the runtime has taken from the system and not
// given back, and the number of goroutines.
func memory() (heap, total, goroutines uint64) {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}, {Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(s)
	v := func(i int) uint64 {
		if s[i].Value.Kind() != metrics.KindUint64 {
			return 0
		}
		return s[i].Value.Uint64()
	}
	return v(0), v(1) - v(2), v(3)
}
