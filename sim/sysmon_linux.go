package sim

import (
	"os"
	"slices"
	"strconv"
	"syscall"
	"unsafe"
)

// calmSysmon gives the Go runtime's monitor thread the lowest priority there is (SCHED_IDLE), for the rest of the process's
// life. The monitor interrupts a goroutine that has seemed to run for 10 ms. On a busy machine it only seemed so: the
// process had been waiting for a processor. Each such interruption may change the order of goroutines within one instant,
// and with it the report. With this priority the monitor hardly runs while others wait for a processor.
//
// It is the second thread of every Go program, after the main one. Where that should not be so, another thread of this
// process works a little later on a busy machine, and no harm is done.
func calmSysmon() {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	var ids []int
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if len(ids) < 2 || ids[0] != os.Getpid() {
		return
	}
	const schedIdle = 5
	var param struct{ priority int32 }
	syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, uintptr(ids[1]), schedIdle, uintptr(unsafe.Pointer(&param)))
}
