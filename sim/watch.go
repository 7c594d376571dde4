package sim

import (
	"runtime/metrics"
	"sync"
	"time"

	"p2psip/sim/result"
)

// watcher looks at a run from outside the bubble, in real time: progress, and what the run costs this machine.
type watcher struct {
	r        *run
	progress func(result.Progress)
	begin    time.Time
	cpu      float64
	done     chan struct{}
	wg       sync.WaitGroup

	heap, total, goroutines uint64 // peaks
}

const watchInterval = 250 * time.Millisecond

func watch(r *run, progress func(result.Progress)) *watcher {
	w := &watcher{r: r, progress: progress, begin: time.Now(), cpu: cpuSeconds(), done: make(chan struct{})}
	w.wg.Go(func() {
		t := time.NewTicker(watchInterval)
		defer t.Stop()
		for {
			w.look()
			select {
			case <-t.C:
			case <-w.done:
				return
			}
		}
	})
	return w
}

func (w *watcher) look() {
	heap, total, goroutines := memory()
	w.heap, w.total, w.goroutines = max(w.heap, heap), max(w.total, total), max(w.goroutines, goroutines)
	if p := w.r.progress.Load(); p != nil && w.progress != nil {
		w.progress(*p)
	}
}

// stop ends the watch and gives what the run has cost.
func (w *watcher) stop() *result.Self {
	close(w.done)
	w.wg.Wait()
	w.look()
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
