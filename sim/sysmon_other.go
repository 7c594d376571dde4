//go:build !linux

package sim

// calmSysmon has no counterpart here: on a busy machine reports of one seed may differ a little.
func calmSysmon() {}
