package result

// Progress is how far a run has come. The simulation tells it now and then; what is done with it is the receiver's matter.
type Progress struct {
	Phase    string  // "joining", "measuring"
	Done     float64 // share of the whole run, 0 to 1, by virtual time or whatever predicts wall time better
	VirtualS float64 // seconds of virtual time passed
	TotalS   float64 // and to pass in all
	Nodes    int     // living now
	Messages uint64  // sent so far
}
