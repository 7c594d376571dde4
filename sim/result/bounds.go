package result

// What is believed of a file, and kept of a run, at most.
const (
	MaxFile   = 64 << 20 // bytes of JSON
	MaxNodes  = 200_000  // entries of a row in PerNode
	MaxPoints = 10_000   // entries over time
	MaxList   = 1_000    // entries of every other list
	MaxName   = 200      // bytes of a name
	MaxText   = 64 << 10 // bytes of the scenario, or of a note
)
