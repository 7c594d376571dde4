// Package result says what a simulation has shown: the types of one run with their JSON keys, the statistics behind the
// figures, several seeds put together, and two runs compared.
//
// Data flows one way. The simulation collects a [Sample] for each operation and counts for each node, and makes a [Run] of
// them with [Summarize], [NewLoad] and the fields of Run. [Write] turns a Run into JSON, [Read] back, strictly and within
// bounds: a result may have been made by somebody else. [Combine] puts the runs of several seeds together, [Compare] sets
// two runs side by side. Package report draws what is in a Run and knows nothing else.
//
// # What the figures mean
//
// Every quantity that may be missing is a [Value]; its zero value means "not measured" and is null in JSON, so that a figure
// nobody has measured never looks like a nought.
//
// Percentiles are nearest-rank: p95 is the smallest sample that at least 95 % of the samples do not exceed. It is always a
// delay that really occurred. Delays are those of the operations that succeeded; the others are in success, the share of all
// that were tried. All delays are in milliseconds of virtual time.
//
// The same run with the same seed gives the same JSON but for wall_s and what is below self; [Run.Strip] takes these away.
package result
